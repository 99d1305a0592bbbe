"""An environment of its own for each library that does not live beside this project's TensorFlow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.data import PeerError

ENVIRONMENTS = Path(".peers")
_HERE = Path(__file__).parent


def _runs(*command: str) -> bool:
    """A pyenv shim may be there and answer "command not found": a candidate counts only if it runs."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _uv() -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [str(path) for path in pyenv.glob("versions/*/bin/uv")]
    for candidate in (os.environ.get("UV", ""), ".tools/bin/uv", "uv", str(Path.home() / ".local/bin/uv"), *found):
        if candidate and _runs(candidate, "--version"):
            return candidate
    raise PeerError("uv is missing: run ./bootstrap.sh, or install uv")


def _python(version: str) -> str:
    """A Python of this version, or the version itself for uv to find or fetch."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(str(path) for path in pyenv.glob(f"versions/{version}.*/bin/python"))
    check = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for candidate in (*found, f"python{version}"):
        if _runs(candidate, "-c", check):
            return candidate
    return version


def environment(library: str, version: str) -> str:
    """Makes the environment of a library from its hashed lock, unless it is there already.

    Args:
      library: the folder beside this file that has requirements.lock.
      version: of Python, such as "3.10".

    Returns:
      Path of its Python.

    Raises:
      PeerError: uv is missing, or it could not make the environment; with uv's last line.
    """
    lock = _HERE / library / "requirements.lock"
    folder = ENVIRONMENTS / library
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    wanted = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    uv = _uv()
    print(f"installing {lock} into {folder}", file=sys.stderr, flush=True)
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    settings["UV_COMPILE_BYTECODE"] = "1"
    # Wheels that pip finds beside the index are found by uv too.
    if "PIP_FIND_LINKS" in settings:
        settings.setdefault("UV_FIND_LINKS", settings["PIP_FIND_LINKS"])
    for command in (
        ["venv", "--quiet", "--clear", "--python", _python(version), str(folder)],
        ["pip", "sync", "--quiet", "--python", str(python), "--require-hashes", str(lock)],
    ):
        done = subprocess.run([uv, *command], env=settings, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1].strip()
            raise PeerError(f"{folder}: uv {command[0]} failed: {last}; see benchmarks/peers/README.md")
    stamp.write_text(wanted)
    return str(python)
