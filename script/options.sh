# Sourced from the project's folder by what builds in a folder of its own.
#   build_options   for meson setup: the generated headers, which two files of three read, are precompiled
# ccache stores objects of precompiled headers only when it is told that they may be compared by their content. Whoever calls meson
# alone has neither: fewer things to know about while working.
build_options=(-Db_pch=true)
export CCACHE_SLOPPINESS="${CCACHE_SLOPPINESS:+$CCACHE_SLOPPINESS,}pch_defines,time_macros"
