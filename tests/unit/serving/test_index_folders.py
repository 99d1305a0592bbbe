"""What an index's folder holds, and which folders are refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.index import ItemIndex
from serving.index_manifest import ItemIndexError, Latency, Measurement, read_manifest, write_manifest
from tests.unit.serving.indexes import build, clustered


@pytest.fixture(scope="module")
def hashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index that is large enough for hashing."""
    folder = tmp_path_factory.mktemp("hashing") / "index"
    build(folder, clustered(25_000)[0])
    return folder


def test_measurement_stands_at_the_top_level(tmp_path: Path) -> None:
    build(tmp_path / "i", np.array([[1], [2]]))
    measurement = Measurement(
        recall_at=10,
        recall=0.5,
        min_recall=0.25,
        queries=3,
        latency=Latency(index_p50_us=1.0, exact_p50_us=2.0, ratio=0.5),
    )
    manifest = read_manifest(tmp_path / "i").model_copy(update={"measurement": measurement})
    write_manifest(tmp_path / "i", manifest)
    content = json.loads((tmp_path / "i" / "index.json").read_text())
    assert (content["items"], content["dimension"], content["recall"], content["recall_at"]) == (2, 1, 0.5, 10)
    assert content["latency"]["ratio"] == 0.5
    assert ItemIndex(tmp_path / "i").manifest == manifest


class TestRefusedFolders:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        build(tmp_path / "i", np.array([[1, 0], [2, 0]]))
        return tmp_path / "i"

    def test_pickle(self, folder: Path) -> None:
        (folder / "scann" / "scann_docids.pkl").write_bytes(pickle.dumps(["a"]))
        with pytest.raises(ItemIndexError, match=r"scann_docids\.pkl: an index must not hold this file"):
            ItemIndex(folder)

    def test_symlink(self, folder: Path) -> None:
        target = (folder / "embeddings.npy").rename(folder.parent / "elsewhere.npy")
        (folder / "embeddings.npy").symlink_to(target)
        with pytest.raises(ItemIndexError, match="must not hold a symlink"):
            ItemIndex(folder)

    def test_truncated_embeddings(self, folder: Path) -> None:
        content = (folder / "embeddings.npy").read_bytes()
        (folder / "embeddings.npy").write_bytes(content[:-4])
        with pytest.raises(ItemIndexError, match=r"embeddings\.npy: cannot read it"):
            ItemIndex(folder)

    def test_other_shape(self, folder: Path) -> None:
        np.save(folder / "embeddings.npy", np.ones((3, 2), dtype=np.float32))
        with pytest.raises(ItemIndexError, match=r"expected float32 \[2, 2\], found float32 \[3, 2\]"):
            ItemIndex(folder)

    def test_ids_of_another_index(self, folder: Path, tmp_path: Path) -> None:
        build(tmp_path / "other", np.array([[1, 0]]))
        for file in ("data.bin", "offsets.npy"):
            (tmp_path / "other" / "ids" / file).rename(folder / "ids" / file)
        with pytest.raises(ItemIndexError, match="2 items, but 1 ids"):
            ItemIndex(folder)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": "two"}'])
    def test_bad_manifest(self, folder: Path, text: str) -> None:
        (folder / "index.json").write_text(text)
        with pytest.raises(ItemIndexError, match=r"index\.json: cannot read"):
            ItemIndex(folder)


@pytest.mark.parametrize("name", ["ah_codebook.pb", "hashed_dataset.npy", "scann_config.pb"])
def test_missing_scann_file_is_refused(hashing: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(hashing, tmp_path / "i")
    (tmp_path / "i" / "scann" / name).unlink()
    with pytest.raises(ItemIndexError, match=f"ScaNN cannot read it: {name} is missing"):
        ItemIndex(tmp_path / "i")


@pytest.mark.parametrize(("size", "message"), [(None, "scann_config.pb is missing"), (20, "Failed to parse proto")])
def test_damaged_configuration_of_brute_force_is_refused(tmp_path: Path, size: int | None, message: str) -> None:
    build(tmp_path / "i", np.eye(3))
    file = tmp_path / "i" / "scann" / "scann_config.pb"
    content = file.read_bytes()
    file.unlink()
    if size is not None:
        file.write_bytes(content[:size])
    with pytest.raises(ItemIndexError, match=f"ScaNN cannot read it: .*{message}"):
        ItemIndex(tmp_path / "i")


@pytest.mark.parametrize("name", ["ah_codebook.pb", "hashed_dataset.npy"])
def test_truncated_scann_file_is_refused(hashing: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(hashing, tmp_path / "i")
    file = tmp_path / "i" / "scann" / name
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ItemIndexError, match="ScaNN cannot read it"):
        ItemIndex(tmp_path / "i")
