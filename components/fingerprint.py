"""Fingerprints of source code, so that TFX's cache notices a change of it.

TFX keys its cache by executor path, input artifacts and parameters, not by the code that runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def source_fingerprint(*packages: str) -> str:
    """Hash of all Python sources of the given packages.

    Args:
      *packages: folders below the project's root, such as "models" or "components/ingestion".

    Returns:
      16 hex digits. The same for the same file names and contents, wherever the project lies.

    Raises:
      FileNotFoundError: a package has no Python source.
    """
    digest = hashlib.sha256()
    for package in packages:
        files = sorted((ROOT / package).rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"no Python source in {package}")
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]
