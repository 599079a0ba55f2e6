# Sourced by the other scripts: changes to the project's folder and makes .venv, with the project
# and its dev group in it. Needs Python 3.11 or later, its pip, and the package index the first
# time; afterwards a stamp tells that nothing has changed.

CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

find_python() {
  local name
  for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
    # a name on the PATH may be a shim that does not run, so each is tried
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
    then
      echo "$name"
      return
    fi
  done
  echo "exkiq: Python 3.11 or later with venv and pip is needed, and none was found on the PATH." >&2
  echo "exkiq: on Debian and Ubuntu: apt-get install python3 python3-venv" >&2
  return 1
}

# Whether .venv is whole and was made in this folder: its programs hold the path they were made in.
runs_here() {
  grep -qsF "$PWD/.venv/" .venv/bin/pip \
    && .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_venv() {
  local python
  python=$(find_python)
  echo "setting up .venv with $("$python" --version) (once)" >&2
  rm -rf .venv
  "$python" -m venv .venv
}

fill_venv() {
  echo "installing the project and its dev group (once, or when pyproject.toml changed)" >&2
  # --group came with pip 25.1, and a new .venv has the pip of its Python
  .venv/bin/python -m pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
  .venv/bin/python -m pip install -qq --disable-pip-version-check --editable . --group dev
}

stamp=.venv/exkiq.stamp
wanted="$(cksum <pyproject.toml) in $PWD"
if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
  runs_here || make_venv
  fill_venv
  echo "$wanted" >"$stamp"
fi
unset stamp wanted
