"""Stands for `python -m pipeline` where Airflow is tested: the same arguments, exit codes and lock, no TensorFlow.

In a split by span, ingestion's check of the input is the real one. Like ReleasePusher it publishes no span that is
earlier than the last one published. What else it does is decided by files in the working folder: a line `STAGE SECONDS`
in `slow`, a gate's message in `refuse-SPAN`. Each beginning and end of a stage becomes a line of `calls`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from components.ingestion.config import SplitBySpan
from components.ingestion.errors import IngestionError
from pipeline.config import PipelineConfig, load_config
from pipeline.exit_codes import FAILED, NOT_YET, OK, REFUSED
from pipeline.run import RunError, only_one
from pipeline.stages import Stage

STAGES = tuple(stage.value for stage in Stage)


def _note(*words: object) -> None:
    with Path("calls").open("a") as calls:
        calls.write(" ".join(map(str, words)) + "\n")


def _release(config: PipelineConfig, span: int) -> None:
    config.releases.mkdir(exist_ok=True)
    versions = sorted(int(p.name) for p in config.releases.iterdir() if p.name.isdigit())
    if versions:
        later = json.loads((config.releases / str(versions[-1]) / "release.json").read_text())["span"]
        if later > span:
            print(f"nothing is published: release {versions[-1]} of span {later} is later than span {span}")
            return
    version = max(int(time.time()), versions[-1] + 1 if versions else 1)
    temporary = config.home / "release.tmp"
    temporary.mkdir(exist_ok=True)
    (temporary / "weights").write_bytes(bytes(300_000))
    (temporary / "release.json").write_text(json.dumps({"version": version, "span": span}))
    temporary.rename(config.releases / str(version))


def _stage(config: PipelineConfig, span: int, stage: str) -> int:
    done = config.home / f"{span}-{stage}"
    if done.exists():
        print(f"{stage} of span {span} from the cache")
        return OK
    _note("begin", span, stage, os.getpid())
    if stage == "ingest" and isinstance(config.data.split, SplitBySpan):
        # Beam takes seconds to load: only where a test is about the input.
        from components.ingestion.checks import check_inputs

        for left_out, reason in check_inputs(config.ingestion(span)).items():
            print(f"span {left_out} is not trained on: {reason}")
    slow = Path("slow")
    if slow.exists() and slow.read_text().split()[0] == stage:
        time.sleep(float(slow.read_text().split()[1]))
    refusal = Path(f"refuse-{span}")
    if stage == "evaluate" and refusal.exists():
        print(refusal.read_text(), file=sys.stderr)
        return REFUSED
    if stage == "release":
        _release(config, span)
    done.touch()
    _note("end", span, stage)
    print(f"{stage} of span {span} done")
    return OK


def main() -> int:
    """Answers one call; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["ready", "run", "history", "check-served"])
    parser.add_argument("--config", required=True)
    parser.add_argument("--span", type=int)
    parser.add_argument("--until", choices=STAGES)
    parser.add_argument("--wait", type=float)
    parser.add_argument("--address")
    options = parser.parse_args()
    config = load_config(options.config)
    if options.command == "ready":
        data = config.data.interactions.files.replace("{SPAN}", str(options.span))
        if Path(data).exists():
            return OK
        print(f"span {options.span} is not there yet: data.interactions.files: no file matches {data}", file=sys.stderr)
        return NOT_YET
    if options.command != "run":
        print(f"{options.command} of {config.name}")
        return OK
    try:
        with only_one(config.home, options.wait):
            for stage in STAGES[: STAGES.index(options.until) + 1]:
                code = _stage(config, options.span, stage)
                if code != OK:
                    return code
    except (IngestionError, OSError, RunError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main())
