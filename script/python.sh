# Sourced from the project's folder: sets the interpreter that every script and test runs with.
#   debian_python   the one that script/bootstrap equips with hpack, pytest and yaml; another python3 in PATH may lack them
#   python          the same with the peers from PyPI on top, where bootstrap could install them
# PYTHON in the environment overrides both.
debian_python=${PYTHON:-/usr/bin/python3}
command -v "$debian_python" >/dev/null || debian_python=python3
python=.cache/venv/bin/python
if [ -n "${PYTHON:-}" ] || [ ! -x "$python" ]; then python=$debian_python; fi
