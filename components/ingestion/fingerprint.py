"""Hashes of the input files: of each, for lineage, and of all that a run reads, for TFX's cache."""

from __future__ import annotations

import hashlib

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from components.ingestion.checks import left_out
from components.ingestion.config import IngestionConfig, SplitBySpan
from components.ingestion.inputs import input_files
from components.ingestion.layout import Source, layouts

CHUNK = 1 << 20


def file_digest(path: str) -> str:
    """SHA-256 of a file as it lies there, packed or not, 64 hex digits."""
    digest = hashlib.sha256()
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def input_fingerprint(config: IngestionConfig) -> str:
    """Hash of the input files' contents.

    TFX keys its cache by parameters. Ingestion's inputs are no artifacts, so this hash is one of them. It is of what
    is in the files and not of when they were written: a span that is delivered again, under the same name or another
    one, changes nothing. A span that is left out counts as one without files, so when it is mended that is a change.

    Args:
      config: names the files; every file system that Beam knows will do.

    Returns:
      16 hex digits.

    Raises:
      IngestionError: the file system cannot list or read them.
    """
    config = config.skipping(left_out(config))
    digest = hashlib.sha256()
    for layout in layouts(config):
        lines = [
            f"{layout.source.value}\t{file.span}\t{file_digest(file.path)}\n"
            for file in input_files(config, layout.source)
        ]
        if isinstance(config.data.split, SplitBySpan) and layout.source is Source.INTERACTIONS:
            lines = sorted(set(lines))  # equal rows count once there, so equal files do
        digest.update("".join(lines).encode())
    return digest.hexdigest()[:16]
