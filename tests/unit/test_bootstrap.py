"""bootstrap.sh: which Python it takes, and the one line it says when something is missing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Answers for uv: notes each call, makes a .venv/bin/python, knows no Python of its own.
FAKE_UV = """#!/bin/sh
echo "$@" >>calls
case "$1" in
  venv) mkdir -p .venv/bin; touch .venv/bin/python; chmod +x .venv/bin/python ;;
  python) exit 1 ;;
esac
"""


class Machine:
    """A folder with bootstrap.sh, and a PATH with nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copy(ROOT / "bootstrap.sh", folder)
        (folder / "requirements.lock").write_text("six==1.16.0\n")
        (folder / "setup.py").write_text("\n")
        for tool in ("sh", "cat", "cut", "dirname", "sha256sum", "rm", "mkdir", "touch", "chmod"):
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")

    def add(self, path: str, script: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(script)
        file.chmod(0o755)
        return file

    def add_python310(self, path: str) -> Path:
        """Says that it is 3.10 and where its headers are."""
        (self.folder / "Python.h").touch()
        return self.add(path, f'#!/bin/sh\ncase "$2" in *sysconfig*) echo "{self.folder}/Python.h" ;; esac\n')

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "sh"), "bootstrap.sh"],
            cwd=self.folder,
            env={"PATH": str(self.bin), "HOME": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_shim_that_does_not_run_is_passed_over_for_pyenvs_own_python(machine: Machine) -> None:
    machine.add("bin/uv", FAKE_UV)
    machine.add("bin/g++", "#!/bin/sh\n")
    machine.add("bin/python3.10", "#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2\nexit 127\n")
    real = machine.add_python310("pyenv/versions/3.10.13/bin/python")
    done = machine.run(PYENV_ROOT=str(machine.folder / "pyenv"))
    assert done.returncode == 0, done.stderr
    assert f"--python {real}" in machine.calls[1]
    assert "pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock" in machine.calls


def test_the_systems_python_is_taken_where_there_is_no_pyenv(machine: Machine) -> None:
    machine.add("bin/uv", FAKE_UV)
    machine.add("bin/g++", "#!/bin/sh\n")
    machine.add_python310("bin/python3.10")
    assert machine.run().returncode == 0
    assert any("--python python3.10" in call for call in machine.calls)


def test_a_finished_venv_is_left_alone_until_the_lock_changes(machine: Machine) -> None:
    machine.add("bin/uv", FAKE_UV)
    machine.add("bin/g++", "#!/bin/sh\n")
    machine.add_python310("bin/python3.10")
    machine.run()
    calls = len(machine.calls)
    machine.run()
    assert len(machine.calls) == calls
    (machine.folder / "requirements.lock").write_text("six==1.17.0\n")
    machine.run()
    assert len(machine.calls) > calls


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ((), "uv is missing and could not be fetched"),
        (("uv",), "Python 3.10 is missing and could not be fetched"),
        (("uv", "python"), "g++ is missing (Debian: apt-get install g++)"),
    ],
)
def test_what_is_missing_is_said_in_one_line(machine: Machine, present: tuple[str, ...], message: str) -> None:
    if "uv" in present:
        machine.add("bin/uv", FAKE_UV)
    if "python" in present:
        machine.add_python310("bin/python3.10")
    done = machine.run()
    assert done.returncode == 1
    assert done.stderr.startswith(f"bootstrap: {message}")
    assert len(done.stderr.splitlines()) == 1


def test_missing_headers_are_named(machine: Machine) -> None:
    machine.add("bin/uv", FAKE_UV)
    machine.add("bin/g++", "#!/bin/sh\n")
    machine.add_python310("bin/python3.10")
    (machine.folder / "Python.h").unlink()
    assert "the headers of Python 3.10 are missing" in machine.run().stderr
