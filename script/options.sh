# Sourced from the project's folder by what builds in a folder of its own.
#   build_options   for meson setup: the generated headers, which two files of three read, are precompiled
#   lines           the same, where a sanitizer's report is to name lines: all else of debugging information takes a fifth of compiling
# ccache stores objects of precompiled headers only when it is told that they may be compared by their content. Whoever calls meson
# alone has neither: fewer things to know about while working.
build_options=(-Dprecompiled=true)
lines=(-Ddebug=false -Db_ndebug=false -Dc_args=-g1 -Dcpp_args=-g1)
export CCACHE_SLOPPINESS="${CCACHE_SLOPPINESS:+$CCACHE_SLOPPINESS,}pch_defines,time_macros"
