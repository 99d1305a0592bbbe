import errno
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.proto.generate import ROOT
from serving.release import (
    ReleaseError,
    folder_fingerprint,
    list_versions,
    verify_release,
    write_release,
)
from tests.unit.serving.tiny import SPEC, example, save_index

# A process of its own must not inherit TensorFlow's threads, which a fork does not copy.
SPAWN = multiprocessing.get_context("spawn")
QUERIES = [(b"u", example(user_id=[b"u"]).SerializeToString())]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a SavedModel: this format does not read it."""
    folder = tmp_path / "model"
    for name in ("saved_model.pb", "variables/variables.index", "assets/vocabulary", "assets.extra/model.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def index(tmp_path: Path, model: Path) -> Path:
    return save_index(tmp_path / "index", folder_fingerprint(model), {"a": [1, 2], "b": [3, 4]})


def publish(root: Path, model: Path, index: Path, queries: list[tuple[bytes, bytes]] = QUERIES) -> int:
    return write_release(root, model_name="m", features=SPEC, model=model, index=index, queries=queries)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_layout_fits_tensorflow_serving(tmp_path: Path, model: Path, index: Path) -> None:
    before = int(time.time())
    version = publish(tmp_path / "r", model, index)
    assert before <= version <= int(time.time())
    assert names(tmp_path / "r") == [".lock", str(version)]
    assert names(tmp_path / "r" / str(version)) == [
        "assets",
        "assets.extra",
        "index",
        "queries",
        "release.json",
        "saved_model.pb",
        "variables",
    ]
    manifest = verify_release(tmp_path / "r" / str(version))
    assert (manifest.version, manifest.model_name, manifest.features) == (version, "m", SPEC)
    assert manifest.model_fingerprint == folder_fingerprint(model)
    assert manifest.files["saved_model.pb"].bytes == len("content of saved_model.pb")
    assert (tmp_path / "r" / str(version)).stat().st_mode & 0o777 == model.stat().st_mode & 0o777


def test_same_content_again_is_the_same_version(tmp_path: Path, model: Path, index: Path) -> None:
    first = publish(tmp_path / "r", model, index)
    assert publish(tmp_path / "r", model, index) == first
    assert list_versions(tmp_path / "r") == [first]


def test_same_content_after_damage_is_a_new_version(tmp_path: Path, model: Path, index: Path) -> None:
    first = publish(tmp_path / "r", model, index)
    (tmp_path / "r" / str(first) / "saved_model.pb").write_text("damaged")
    second = publish(tmp_path / "r", model, index)
    assert second > first
    verify_release(tmp_path / "r" / str(second))


def test_versions_only_grow(tmp_path: Path, model: Path, index: Path) -> None:
    future = int(time.time()) + 1_000_000
    (tmp_path / "r" / str(future)).mkdir(parents=True)
    assert publish(tmp_path / "r", model, index) == future + 1
    other = [(b"v", QUERIES[0][1])]
    assert publish(tmp_path / "r", model, index, other) == future + 2
    assert list_versions(tmp_path / "r") == [future, future + 1, future + 2]


def test_list_versions_knows_whole_numbers_only(tmp_path: Path) -> None:
    largest = 9223372036854775807  # of an int64
    for name in ("10", "9", str(largest), str(largest + 1), "1" + 22 * "0", "0x1", "01", ".tmp-5", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert list_versions(tmp_path) == [9, 10, largest]
    assert list_versions(tmp_path / "absent") == []


def test_index_of_another_model_is_refused(tmp_path: Path, model: Path, index: Path) -> None:
    (model / "variables" / "variables.index").write_text("another training run")
    with pytest.raises(ReleaseError, match=r"the index was built from model .* build the index again"):
        publish(tmp_path / "r", model, index)
    assert names(tmp_path / "r") == [".lock"]


def test_model_without_saved_model_is_refused(tmp_path: Path, model: Path, index: Path) -> None:
    (model / "saved_model.pb").unlink()
    with pytest.raises(ReleaseError, match=r"the model has no saved_model\.pb"):
        publish(tmp_path / "r", model, index)


@pytest.mark.parametrize("folder", ["model", "index"])
def test_writer_refuses_symlink_and_pickle(tmp_path: Path, model: Path, index: Path, folder: str) -> None:
    link = tmp_path / folder / "link"
    link.symlink_to("/etc/hostname")
    with pytest.raises(ReleaseError, match="must not hold a symlink"):
        publish(tmp_path / "r", model, index)
    link.unlink()
    (tmp_path / folder / "x.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ReleaseError, match="must not hold a pickle"):
        publish(tmp_path / "r", model, index)
    assert names(tmp_path / "r") == [".lock"]


def test_model_that_uses_a_reserved_name_is_refused(tmp_path: Path, model: Path, index: Path) -> None:
    (model / "queries").mkdir()
    (model / "queries" / "x").write_text("")
    with pytest.raises(ReleaseError, match="the name is reserved"):
        publish(tmp_path / "r", model, index)


class TestFingerprint:
    def test_is_that_of_names_sizes_and_contents(self, tmp_path: Path, model: Path) -> None:
        before = folder_fingerprint(model)
        model.rename(tmp_path / "moved")
        assert folder_fingerprint(tmp_path / "moved") == before
        (tmp_path / "moved" / "assets" / "vocabulary").rename(tmp_path / "moved" / "assets" / "words")
        assert folder_fingerprint(tmp_path / "moved") != before

    def test_leaves_temporary_files_out(self, model: Path) -> None:
        before = folder_fingerprint(model)
        (model / ".temp").mkdir()
        (model / ".temp" / "x").write_text("x")
        (model / "variables" / ".part").write_text("x")
        assert folder_fingerprint(model) == before

    def test_of_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ReleaseError, match="no files"):
            folder_fingerprint(tmp_path / "absent")


class TestRefusedAtLoad:
    @pytest.fixture
    def release(self, tmp_path: Path, model: Path, index: Path) -> Path:
        folder = tmp_path / "r" / str(publish(tmp_path / "r", model, index))
        verify_release(folder)
        return folder

    def change(self, folder: Path, **values: object) -> None:
        content = json.loads((folder / "release.json").read_text())
        (folder / "release.json").write_text(json.dumps(content | values))

    def test_truncated_file(self, release: Path) -> None:
        path = release / "index" / "embeddings.npy"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ReleaseError, match=r"embeddings\.npy: has 143 bytes, release\.json says 144"):
            verify_release(release)

    def test_file_that_cannot_be_read(self, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr("serving.release._digest", refuse)
        with pytest.raises(ReleaseError, match=r": cannot be read: Permission denied$"):
            verify_release(release)

    @pytest.mark.parametrize(
        "name", ["saved_model.pb", "assets.extra/model.json", "index/ids/data.bin", "queries/examples/data.bin"]
    )
    def test_flipped_byte(self, release: Path, name: str) -> None:
        content = bytearray((release / name).read_bytes())
        content[0] ^= 1
        (release / name).write_bytes(content)
        with pytest.raises(ReleaseError, match=f"{name}: its content has changed"):
            verify_release(release)

    def test_missing_file(self, release: Path) -> None:
        (release / "assets" / "vocabulary").unlink()
        with pytest.raises(ReleaseError, match="vocabulary: the file is missing"):
            verify_release(release)

    def test_unexpected_file(self, release: Path) -> None:
        (release / "assets" / "more").write_text("")
        with pytest.raises(ReleaseError, match=r"more: release\.json does not name this file"):
            verify_release(release)

    def test_symlink(self, release: Path, tmp_path: Path) -> None:
        moved = (release / "saved_model.pb").rename(tmp_path / "elsewhere")
        (release / "saved_model.pb").symlink_to(moved)
        with pytest.raises(ReleaseError, match="must not hold a symlink"):
            verify_release(release)

    def test_pickle(self, release: Path) -> None:
        (release / "index" / "scann_docids.pkl").write_bytes(pickle.dumps([1]))
        with pytest.raises(ReleaseError, match="must not hold a pickle"):
            verify_release(release)

    def test_index_of_another_model(self, release: Path) -> None:
        path = release / "index" / "index.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"model_fingerprint": "0" * 64}))
        # Whoever changes a file on purpose can change its entry too; the pair still does not fit.
        from serving import release as module

        entry = module._digest(path)
        files = json.loads((release / "release.json").read_text())["files"]
        files["index/index.json"] = entry.model_dump()
        entries = {name: module.FileEntry(**value) for name, value in files.items()}
        self.change(release, files=files, fingerprint=module._release_fingerprint("m", SPEC, entries))
        with pytest.raises(ReleaseError, match="the index was built from model 000000000000"):
            verify_release(release)

    @pytest.mark.parametrize("key", ["fingerprint", "model_fingerprint"])
    def test_wrong_fingerprint(self, release: Path, key: str) -> None:
        self.change(release, **{key: "0" * 64})
        with pytest.raises(ReleaseError, match="fingerprint does not fit"):
            verify_release(release)

    def test_other_model_name(self, release: Path) -> None:
        self.change(release, model_name="other")
        with pytest.raises(ReleaseError, match="the fingerprint does not fit"):
            verify_release(release)

    def test_renamed_folder(self, release: Path) -> None:
        moved = release.rename(release.parent / "5")
        with pytest.raises(ReleaseError, match=r"release\.json says version"):
            verify_release(moved)

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": "1"}'])
    def test_bad_manifest(self, release: Path, text: str) -> None:
        (release / "release.json").write_text(text)
        with pytest.raises(ReleaseError, match=r"release\.json: cannot read the manifest") as raised:
            verify_release(release)
        assert "\n" not in str(raised.value)

    def test_manifest_that_points_outside(self, release: Path) -> None:
        files = json.loads((release / "release.json").read_text())["files"]
        self.change(release, files=files | {"../../secret": {"bytes": 1, "sha256": "0"}})
        with pytest.raises(ReleaseError, match="secret: the file is missing"):
            verify_release(release)

    def test_folder_that_is_a_symlink(self, release: Path) -> None:
        link = release.parent / "99"
        link.symlink_to(release)
        with pytest.raises(ReleaseError, match="is not a release folder"):
            verify_release(link)


def publish_many(root: Path, model: Path, index: Path, name: bytes) -> None:
    for number in range(5):
        publish(root, model, index, [(name + str(number).encode(), b"")])


def publish_slowly(root: Path, model: Path, index: Path, started: Path) -> None:
    def queries() -> Iterator[tuple[bytes, bytes]]:
        yield (b"a", b"")
        started.touch()
        time.sleep(600)

    write_release(root, model_name="m", features=SPEC, model=model, index=index, queries=queries())


@pytest.mark.slow
def test_two_processes_publish_at_once(tmp_path: Path, model: Path, index: Path) -> None:
    root = tmp_path / "r"
    writers = [SPAWN.Process(target=publish_many, args=(root, model, index, name)) for name in (b"x", b"y")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    versions = list_versions(root)
    assert len(versions) == 10
    assert len({verify_release(root / str(version)).fingerprint for version in versions}) == 10
    assert names(root) == sorted([".lock", *map(str, versions)])


@pytest.mark.slow
def test_killed_writer_leaves_nothing_visible(tmp_path: Path, model: Path, index: Path) -> None:
    root, started = tmp_path / "r", tmp_path / "started"
    writer = SPAWN.Process(target=publish_slowly, args=(root, model, index, started))
    writer.start()
    deadline = time.monotonic() + 120
    while not started.exists():
        assert time.monotonic() < deadline
        assert writer.is_alive()
        time.sleep(0.05)
    assert list_versions(root) == []
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(60)
    assert list_versions(root) == []
    assert [name for name in names(root) if name.startswith(".tmp-")] != []
    version = publish(root, model, index)
    assert names(root) == [".lock", str(version)]
    verify_release(root / str(version))


PUBLISH_WITH_LITTLE_ROOM = """
import resource, sys
from pathlib import Path
from models.config import FeatureSpec
from serving.release import write_release

root, model, index = map(Path, sys.argv[1:4])
features = FeatureSpec.model_validate_json(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_release(
        root, model_name="m", features=features, model=model, index=index, queries=[(b"u", bytes(int(sys.argv[5])))]
    )
except (ValueError, OSError) as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("vocabulary", "query", "told"),
    [
        (0, 30_000, r"{root}/\.tmp-[^/]+/queries/examples/data\.bin cannot be written: \[Errno 27\] File too large\n"),
        (
            30_000,
            0,
            r"\[Errno 27\] File too large: '{model}/assets/vocabulary' -> '{root}/\.tmp-.*/assets/vocabulary'\n",
        ),
    ],
    ids=["queries", "model"],
)
def test_a_full_disk_leaves_nothing_visible_and_is_told_with_the_file(
    tmp_path: Path, model: Path, index: Path, vocabulary: int, query: int, told: str
) -> None:
    root = tmp_path / "r"
    before = publish(root, model, index)
    (model / "assets" / "vocabulary").write_bytes(bytes(vocabulary))
    arguments = [str(root), str(model), str(index), SPEC.model_dump_json(), str(query)]
    command = [sys.executable, "-c", PUBLISH_WITH_LITTLE_ROOM, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(told.format(root=re.escape(str(root)), model=re.escape(str(model))), done.stdout), done.stdout
    assert names(root) == [".lock", str(before)]
    verify_release(root / str(before))


@pytest.mark.slow
def test_imports_no_tensorflow() -> None:
    code = "import sys, serving.release; print([m for m in ('tensorflow', 'scann') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
