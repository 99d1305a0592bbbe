"""Fingerprints of source code, so that TFX's cache notices a change of it.

TFX keys its cache by executor path, input artifacts and parameters, not by the code that runs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What Transform runs; the declared features are parameters of it. A changed tower or loss leaves its rows as they are.
TRANSFORM_CODE = ("models/features.py", "models/preprocessing.py")


def source_fingerprint(*packages: str) -> str:
    """Hash of all Python sources of the given packages and modules.

    Args:
      *packages: folders or files below the project's root, such as "models" or "components/ingestion.py".

    Returns:
      16 hex digits. The same for the same file names and contents, wherever the project lies.

    Raises:
      FileNotFoundError: a package has no Python source.
    """
    digest = hashlib.sha256()
    for package in packages:
        path = ROOT / package
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not files:
            raise FileNotFoundError(f"no Python source in {package}")
        for file in files:
            content = file.read_bytes()
            digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]
