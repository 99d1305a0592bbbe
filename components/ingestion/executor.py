"""Executor of RetrievalExampleGen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import apache_beam as beam
from absl import logging
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.ingestion.checks import check_inputs
from components.ingestion.config import IngestionConfig
from components.ingestion.errors import BadRowsError, IngestionError
from components.ingestion.fingerprint import file_digest
from components.ingestion.inputs import input_files
from components.ingestion.layout import layouts
from components.ingestion.ordering import ITEMS, QUERIES, TRAIN, held_out_splits
from components.ingestion.reading import BAD, TALLY
from components.ingestion.spans import spans
from components.ingestion.summary import Summary, bad_row_problem, split_problems
from components.ingestion.transforms import GenerateExamples

QUARANTINE_PREFIX, QUARANTINE_SUFFIX = "rows", ".jsonl"
COUNTS_FILE = "counts.json"
SHOWN_ROWS = 3


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the files and writes raw tf.Examples."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs ingestion.

        Args:
          input_dict: empty.
          output_dict:
            - examples: Examples, splits "train", "eval" and "test" as the config asks for them, "items".
              Properties: span, input_fingerprint, and `<split>_rows` for each; `span_rows`, JSON of the interactions
              of each span that was read; `left_out`, JSON of the reason for each span of the window that was not; and
              `inputs`, JSON of the files read, so that lineage outlives the folders.
            - queries: Examples with the one split "queries".
            - quarantine: Quarantine, `rows*.jsonl` of {"file", "line", "reason", "row"}, and `counts.json`.
              Properties: rows, bad_rows, the same for each kind of file, and the count of each reason.
          exec_properties:
            - config: IngestionConfig as JSON.
            - input_fingerprint: of `fingerprint.input_fingerprint`.
            - code_fingerprint: not read.

        Raises:
          BadRowsError: more rows of a delivery are bad than `data.max_bad_share` allows.
          IngestionError: the input is unusable, or a split came out empty. One line for each problem.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = IngestionConfig.model_validate_json(exec_properties["config"])
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        queries = artifact_utils.get_single_instance(output_dict["queries"])
        quarantine = artifact_utils.get_single_instance(output_dict["quarantine"])
        unused = check_inputs(config)
        for span, reason in unused.items():
            logging.info("Span %d is not trained on: %s", span, reason)
        config = config.skipping(unused)

        splits = [TRAIN, *held_out_splits(config.data.split), ITEMS]
        uris = {split: artifact_utils.get_split_uri([_named(examples, splits)], split) for split in splits}
        uris[QUERIES] = artifact_utils.get_split_uri([_named(queries, [QUERIES])], QUERIES)
        counts_path = FileSystems.join(quarantine.uri, COUNTS_FILE)
        with self._make_beam_pipeline() as pipeline:
            outputs = pipeline | "GenerateExamples" >> GenerateExamples(config)
            for split, uri in uris.items():
                path = FileSystems.join(uri, "data_tfrecord")
                outputs[split] | f"Write[{split}]" >> beam.io.WriteToTFRecord(path, file_name_suffix=".gz")
            outputs[BAD] | "WriteQuarantine" >> beam.io.WriteToText(
                FileSystems.join(quarantine.uri, QUARANTINE_PREFIX), QUARANTINE_SUFFIX
            )
            outputs[TALLY] | "WriteCounts" >> beam.io.WriteToText(counts_path, num_shards=1, shard_name_template="")

        with fileio.open(counts_path) as file:
            summary = Summary.from_json(file.read())
        bad_rows = [] if summary.failures else self._bad_row_problems(summary, config, quarantine.uri)
        problems = summary.failures or bad_rows or split_problems(summary, config)
        if problems:
            self._keep_quarantine(quarantine.uri)
            raise (BadRowsError if bad_rows else IngestionError)(*problems)
        logging.info("Ingested %s; bad rows: %s", summary.splits, summary.bad)

        examples.span = queries.span = config.span
        examples.set_string_custom_property("input_fingerprint", exec_properties["input_fingerprint"])
        examples.set_string_custom_property(
            "span_rows", json.dumps({span: summary.spans.get(span, 0) for span in spans(config.data, config.span)})
        )
        examples.set_string_custom_property("left_out", json.dumps(unused))
        examples.set_string_custom_property("inputs", json.dumps(_inputs(config)))
        for split in splits:
            examples.set_int_custom_property(f"{split}_rows", summary.splits[split])
        queries.set_int_custom_property("queries_rows", summary.splits[QUERIES])
        for artifact in (examples, queries):
            examples_utils.set_payload_format(artifact, example_gen_pb2.FORMAT_TF_EXAMPLE)  # type: ignore[attr-defined]
            examples_utils.set_file_format(artifact, "tfrecords_gzip")
        for name, count in summary.properties().items():
            quarantine.set_int_custom_property(name, count)

    def _bad_row_problems(self, summary: Summary, config: IngestionConfig, uri: str) -> list[str]:
        where = self._kept_quarantine_uri(uri)
        problems = []
        for source, span in summary.too_bad(config.data.max_bad_share):
            paths = {file.path for file in input_files(config, source) if file.span == span}
            examples = list(islice(_bad_rows(uri, paths), SHOWN_ROWS))
            problems.append(bad_row_problem(summary, source, span, config, where, examples))
        return problems

    def _kept_quarantine_uri(self, uri: str) -> str:
        """TFX removes the outputs of an executor that fails, but leaves it its working directory."""
        working_dir = self._context.stateful_working_dir if self._context else None
        return FileSystems.join(working_dir, "quarantine") if working_dir else uri

    def _keep_quarantine(self, uri: str) -> None:
        kept = self._kept_quarantine_uri(uri)
        if kept == uri:
            return
        fileio.makedirs(kept)
        for name in map(str, fileio.listdir(uri)):
            fileio.copy(FileSystems.join(uri, name), FileSystems.join(kept, name), overwrite=True)


def _named(artifact: types.Artifact, splits: list[str]) -> types.Artifact:
    artifact.split_names = artifact_utils.encode_split_names(splits)
    return artifact


def _inputs(config: IngestionConfig) -> list[dict[str, Any]]:
    return [
        {"kind": layout.source.value, "span": file.span, "path": file.path, "sha256": file_digest(file.path)}
        for layout in layouts(config)
        for file in input_files(config, layout.source)
    ]


def _bad_rows(uri: str, paths: set[str]) -> Iterator[str]:
    """The lines of the quarantine that come from these files."""
    for quarantine_file in sorted(fileio.glob(FileSystems.join(uri, f"{QUARANTINE_PREFIX}*{QUARANTINE_SUFFIX}"))):
        with fileio.open(quarantine_file) as lines:
            for line in lines:
                if json.loads(line)["file"] in paths:
                    yield line.strip()
