"""One run of the pipeline on this machine, from the check of its input to what came out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipeline.config import PipelineConfig
from pipeline.progress import Progress, quiet, quiet_exit
from pipeline.stages import Stage
from serving.collector import without_collector

LOCK_POLL_SECONDS = 0.5
METADATA_SECONDS = 10.0  # what reads or writes TFX's metadata is done with it sooner


class RunError(RuntimeError):
    """A run that did not end well. Its text says which component, why, and where the log is."""


class RefusedError(RunError):
    """A gate stopped the run. Its text says which, by how much, and what to do."""


@dataclass(frozen=True)
class PutAside:
    """Input rows that could not be used.

    Attributes:
      rows: all that were read, of all files.
      reasons: how many were put aside, by reason.
      folder: where they are.
    """

    rows: int
    reasons: dict[str, int]
    folder: Path


@dataclass(frozen=True)
class RunResult:
    """What a run produced; None where it ended before that.

    Attributes:
      metrics: metrics.json of RetrievalEvaluator.
      index: index.json of ItemIndexer.
      release: release.json of ReleasePusher; None too if nothing was published.
      note: why a blessed model was not published.
      put_aside: what ingestion could not use.
      log: all that TFX and TensorFlow printed.
    """

    metrics: dict[str, Any] | None
    index: dict[str, Any] | None
    release: dict[str, Any] | None
    note: str | None
    put_aside: PutAside | None
    log: Path

    @property
    def refusal(self) -> str | None:
        """Why the model was not blessed; None if it was, or was not evaluated."""
        if self.metrics is None or self.metrics["blessed"]:
            return None
        reasons = " ".join(self.metrics["refused"])
        return f"the model was not blessed, so nothing was released; earlier releases stay as they were: {reasons}"


@contextlib.contextmanager
def only_one(home: Path, wait: float = 0) -> Iterator[None]:
    """Holds a home's lock; the kernel lets it go when the process ends, however it ends.

    Args:
      home: of the pipeline.
      wait: seconds to wait for another run to end.

    Raises:
      RunError: another run is still under way, or the home cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        opened = (home / ".lock").open("a+")
    except OSError as e:
        raise RunError(f"{home} cannot be written ({e.filename}: {e.strerror}): it follows from root and name") from e
    deadline = time.monotonic() + wait
    with opened as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(LOCK_POLL_SECONDS)
                    continue
                lock.seek(0)
                raise RunError(
                    f"another run of {home.name} is under way (process {lock.read().strip()}); "
                    "start this one when it has ended (--wait SECONDS)"
                ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def check_metadata(file: Path) -> None:
    """Refuses to begin where TFX's metadata cannot be written: ML Metadata tries for minutes and names no file.

    Raises:
      RunError: another program holds the file, or it is no database.
    """
    if not file.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=METADATA_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.DatabaseError as e:
        raise RunError(f"{file} cannot be written ({e}): nothing was run; end what holds it, and start again") from e


def _published(config: PipelineConfig) -> dict[str, Path]:
    """Folders of what the newest run published, by component and output: "Transform.transform_graph".

    Raises:
      RunError: an execution failed. LocalDagRunner publishes a failure to resolve inputs and goes on,
        so the metadata has the last word.
    """
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from pipeline.metadata import METADATA

    store = MetadataStore(sqlite_metadata_connection_config(str(config.home / METADATA)))
    run = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    folders = {}
    for execution in store.get_executions_by_context(run.id):
        nodes = [c.name for c in store.get_contexts_by_execution(execution.id) if c.type == "node"]
        node = nodes[0].rpartition(".")[2]
        if execution.last_known_state == metadata_store_pb2.Execution.FAILED:  # type: ignore[attr-defined]
            raise RunError(f"{node} failed: its inputs could not be resolved")
        for event in store.get_events_by_execution_ids([execution.id]):
            if event.type == metadata_store_pb2.Event.OUTPUT:  # type: ignore[attr-defined]
                (artifact,) = store.get_artifacts_by_id([event.artifact_id])
                folders[f"{node}.{event.path.steps[0].key}"] = Path(artifact.uri)
    return folders


def _started_it(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """An error's message, without the step names that Beam adds."""
    text = str(error).strip() or type(error).__name__
    return text.split(" [while running")[0]


def run_components(
    config: PipelineConfig, pipeline_of: Callable[[], Any], wait: float = 0
) -> tuple[dict[str, Path], Path]:
    """Runs a pipeline in the configuration's home with TFX's LocalDagRunner and shows progress on the terminal.

    Args:
      config: names the pipeline and its home.
      pipeline_of: makes the pipeline; called when TFX is loaded.
      wait: seconds to wait for another run of the same pipeline.

    Returns:
      The folders of all outputs, by component and output ("Transform.transform_graph"), and the log.

    Raises:
      RefusedError: a gate stopped the run.
      RunError: a component failed, another run of the same pipeline is under way, or the metadata cannot be written.
    """
    from components.gates import GateRefusedError
    from pipeline.metadata import METADATA

    with only_one(config.home, wait):
        check_metadata(config.home / METADATA)
        log = config.home / "logs" / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.log"
        started = time.monotonic()
        quiet_exit(log)
        with quiet(log) as console:
            console.print(f"Pipeline {config.name}. TFX and TensorFlow write to {log}")
            with console.status("loading TensorFlow and TFX"), without_collector():
                from absl import logging as absl_logging
                from tfx.orchestration.local.local_dag_runner import LocalDagRunner

                absl_logging.set_verbosity(absl_logging.INFO)
            progress = Progress(console, total=0)
            try:
                pipeline = pipeline_of()
                progress.total = len(pipeline.components)
                with progress:
                    LocalDagRunner().run(pipeline)
            except Exception as e:
                absl_logging.exception("the run failed")
                where, cause = progress.current or "The pipeline", _started_it(e)
                if isinstance(cause, GateRefusedError):
                    raise RefusedError(f"{where} refused: {_reason(cause)}\nLog: {log}") from e
                raise RunError(f"{where} failed: {_reason(cause)}\nLog: {log}") from e
            folders = _published(config)
        print(f"Finished in {time.monotonic() - started:.0f} s", flush=True)
    return folders, log


def _put_aside(folder: Path | None) -> PutAside | None:
    if folder is None:
        return None
    from components.ingestion.layout import Source
    from components.ingestion.summary import Summary

    summary = Summary.from_json((folder / "counts.json").read_text(encoding="utf-8"))
    reasons = sum(map(summary.reasons, Source), Counter[str]())
    return PutAside(summary.properties()["rows"], dict(reasons), folder)


def run_pipeline(
    config: PipelineConfig,
    *,
    span: int = 0,
    until: Stage = Stage.RELEASE,
    beam_args: tuple[str, ...] = (),
    wait: float = 0,
) -> RunResult:
    """Runs all components, or those up to the end of a stage.

    Args:
      config: the validated configuration.
      span: the span to run for.
      until: the last stage to run.
      beam_args: Beam pipeline options for all components.
      wait: seconds to wait for another run of the same pipeline.

    Returns:
      What came out.

    Raises:
      RefusedError: a gate stopped the run.
      RunError: a component failed, or another run of the same pipeline is under way.
    """

    def pipeline() -> Any:
        from pipeline.pipeline import create_pipeline

        return create_pipeline(config, span=span, until=until, beam_args=beam_args)

    folders, log = run_components(config, pipeline, wait)

    def text(output: str, file: str) -> str | None:
        path = folders[output] / file if output in folders else None
        return path.read_text(encoding="utf-8") if path and path.exists() else None

    def read(output: str, file: str) -> dict[str, Any] | None:
        content = text(output, file)
        return None if content is None else json.loads(content)

    return RunResult(
        metrics=read("RetrievalEvaluator.evaluation", "metrics.json"),
        index=read("ItemIndexer.index", "index.json"),
        release=read("ReleasePusher.release", "release.json"),  # written only if something was published
        note=text("ReleasePusher.release", "note.txt"),
        put_aside=_put_aside(folders.get("RetrievalExampleGen.quarantine")),
        log=log,
    )
