"""What the terminal shows and what goes to the log file."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from pipeline.progress import Progress, quiet


def test_noise_goes_to_the_file_and_news_to_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    program = f"""
import os, subprocess, sys
from pathlib import Path
from pipeline.progress import quiet
with quiet(Path({str(log)!r})) as console:
    print("noise of python")
    os.write(2, b"noise of C++\\n")
    subprocess.run(["echo", "noise of a child"], check=True)
    console.print("news")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "news\nafter\n"
    assert done.stderr == ""
    assert sorted(log.read_text().splitlines()) == ["noise of C++", "noise of a child", "noise of python"]


def test_a_log_on_a_full_disk_does_not_swallow_what_comes_after() -> None:
    program = """
from pathlib import Path
from pipeline.progress import quiet
try:
    with quiet(Path("/dev/full")):
        print("noise")
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "No space left on device" in done.stdout


def test_components_are_counted_timed_and_marked_when_cached(tmp_path: Path) -> None:
    read, write = os.pipe()
    saved = os.dup(1)
    os.dup2(write, 1)
    try:
        with quiet(tmp_path / "run.log") as console, Progress(console, total=2) as progress:
            absl = logging.getLogger("absl")
            absl.info("Component %s is running.", "Transform")
            assert progress.current == "Transform"
            absl.info("A cached execution 3 is used.")
            absl.info("Component %s is finished.", "Transform")
            absl.info("Component %s is running.", "Trainer")
            logging.getLogger("retrieval.progress").info("epoch %d of %d", 1, 5)
            absl.info("Component %s is finished.", "Trainer")
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(write)
    with os.fdopen(read) as output:
        lines = [line.split() for line in output.read().splitlines()]
    assert lines[0][:3] == ["[", "1/2]", "Transform"]
    assert lines[0][-3:] == ["from", "the", "cache"]
    assert lines[1] == ["epoch", "1", "of", "5"]
    assert lines[2][:3] == ["[", "2/2]", "Trainer"]
    assert progress.cached == {"Transform"}
    assert list(progress.seconds) == ["Transform", "Trainer"]


def test_handlers_are_gone_afterwards(tmp_path: Path) -> None:
    before = list(logging.getLogger("absl").handlers)
    with quiet(tmp_path / "run.log") as console, Progress(console, total=1):
        assert len(logging.getLogger("absl").handlers) == len(before) + 1
    assert logging.getLogger("absl").handlers == before
