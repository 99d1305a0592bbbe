"""The fingerprint of sources changes with them and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from components import fingerprint


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fingerprint, "ROOT", tmp_path)
    (tmp_path / "models" / "losses").mkdir(parents=True)
    (tmp_path / "models" / "a.py").write_text("x = 1\n")
    (tmp_path / "models" / "losses" / "b.py").write_text("y = 1\n")
    return tmp_path


def test_one_changed_character_in_a_subfolder_changes_it(root: Path) -> None:
    before = fingerprint.source_fingerprint("models")
    assert fingerprint.source_fingerprint("models") == before
    (root / "models" / "losses" / "b.py").write_text("y = 2\n")
    assert fingerprint.source_fingerprint("models") != before


def test_a_single_file(root: Path) -> None:
    before = fingerprint.source_fingerprint("models/a.py")
    (root / "models" / "losses" / "b.py").write_text("y = 2\n")
    assert fingerprint.source_fingerprint("models/a.py") == before
    (root / "models" / "a.py").write_text("x = 2\n")
    assert fingerprint.source_fingerprint("models/a.py") != before


def test_a_renamed_file_changes_it_and_other_files_do_not(root: Path) -> None:
    before = fingerprint.source_fingerprint("models")
    (root / "models" / "notes.txt").write_text("nothing")
    (root / "models" / "__pycache__").mkdir()
    assert fingerprint.source_fingerprint("models") == before
    (root / "models" / "a.py").rename(root / "models" / "c.py")
    assert fingerprint.source_fingerprint("models") != before


def test_text_moved_between_files_changes_it(root: Path) -> None:
    before = fingerprint.source_fingerprint("models")
    (root / "models" / "a.py").write_text("")
    (root / "models" / "losses" / "b.py").write_text("x = 1\ny = 1\n")
    assert fingerprint.source_fingerprint("models") != before


def test_a_folder_without_sources_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Python source in modles"):
        fingerprint.source_fingerprint("modles")
