#!/bin/sh
# Makes .venv from requirements.lock: finds or fetches uv and Python 3.10, whether pyenv, the system or uv has them.
# Does nothing when .venv already holds what the lock and setup.py say. Override with UV=/path/to/uv, PYTHON310=/path/to/python.
set -eu
cd "$(dirname "$0")"

fail() { echo "bootstrap: $*" >&2; exit 1; }

if command -v sha256sum >/dev/null; then sum=sha256sum; else sum="shasum -a 256"; fi
wanted=$(cat requirements.lock setup.py | $sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ "$(cat .venv/.installed 2>/dev/null || true)" = "$wanted" ]; then exit 0; fi

# A candidate counts only if it runs: a pyenv shim may be there and answer "command not found".
runs() { "$@" >/dev/null 2>&1; }
is_310() { runs "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))'; }

pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
uv=
for candidate in "${UV:-}" .tools/bin/uv uv "$HOME/.local/bin/uv" "$pyenv_root"/versions/*/bin/uv; do
  if [ -n "$candidate" ] && runs "$candidate" --version; then uv=$candidate; break; fi
done
if [ -z "$uv" ]; then
  echo "bootstrap: fetching uv"
  for python in python3 python3.13 python3.12 python3.11 python3.10 "$pyenv_root"/versions/3.*/bin/python; do
    runs "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' || continue
    rm -rf .tools
    if runs "$python" -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv; then
      uv=.tools/bin/uv
      break
    fi
  done
  [ -n "$uv" ] || fail "uv is missing and could not be fetched: install uv, or a Python with venv and pip (Debian: apt-get install python3-venv)"
fi

python=
for candidate in "${PYTHON310:-}" "$pyenv_root"/versions/3.10.*/bin/python python3.10 python3; do
  if [ -n "$candidate" ] && is_310 "$candidate"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  python=$("$uv" python find --managed-python 3.10 2>/dev/null || true)
  if [ -z "$python" ]; then
    echo "bootstrap: fetching Python 3.10"
    "$uv" python install 3.10 || fail "Python 3.10 is missing and could not be fetched: install it with pyenv, the system or uv, or set PYTHON310"
    python=$("$uv" python find --managed-python 3.10)
  fi
fi

# pyfarmhash, dill and google-apitools come as source only.
runs g++ --version || fail "g++ is missing (Debian: apt-get install g++)"
headers=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_paths()["include"], "Python.h"))')
[ -f "$headers" ] || fail "the headers of Python 3.10 are missing (Debian: apt-get install python3.10-dev)"

echo "bootstrap: installing requirements.lock with $("$python" --version) into .venv"
"$uv" venv --quiet --allow-existing --python "$python" .venv
rm -f .venv/.installed
# Compiled once here, or each start of TensorFlow and TFX would compile again where writing bytecode is off.
unset PYTHONDONTWRITEBYTECODE
UV_COMPILE_BYTECODE=1 "$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
# The project itself, editable: Beam's worker processes and the tfx command import it from any folder.
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
echo "$wanted" >.venv/.installed
