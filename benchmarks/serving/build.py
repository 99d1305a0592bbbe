"""Builds a release of synthetic items: `python -m benchmarks.serving.build ITEMS FOLDER`.

The tower has the shape of a trained one (88 -> 256 -> 128 -> 32 behind four string tables), the pipeline's signature on
raw features, and weights that are constructed: its layers together multiply by a known matrix, for relu(x) - relu(-x)
is x. FOLDER gets `lite/`, releases with the tower as TensorFlow Lite too, and `signature/`, the same without it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.serving import synthetic
from benchmarks.serving.synthetic import DIMENSION, HISTORY_SHARE, KNOWN_ITEMS, USERS
from models.columns import Buckets, ColumnsConfig, Lookup
from models.config import FeatureSpec
from models.layers.pooling import mean_of_rows
from models.lite import COLUMNS, TOWER, convert
from serving.index_builder import build_index
from serving.index_manifest import read_manifest, write_manifest
from serving.release import folder_fingerprint, write_release

GENDERS, OCCUPATIONS = ["F", "M"], [f"occupation{i}" for i in range(21)]
AGES = (18.0, 25.0, 30.0, 35.0, 45.0, 50.0, 56.0)
SMALL = 8  # width of the small embeddings
WIDTH = 2 * DIMENSION + 3 * SMALL
LONGEST = 50

SPEC = FeatureSpec.model_validate(
    {
        "query_id": "user_id",
        "item_id": "item_id",
        "timestamp": "timestamp",
        "category": "category",
        "features": [
            {"name": "user_id", "kind": "id", "side": "query"},
            {"name": "history", "kind": "history", "side": "query", "max_values": LONGEST},
            {"name": "gender", "kind": "categorical", "side": "query"},
            {"name": "occupation", "kind": "categorical", "side": "query"},
            {"name": "age", "kind": "number", "side": "query", "buckets": len(AGES) + 1},
            {"name": "item_id", "kind": "id", "side": "item"},
            {"name": "category", "kind": "categorical", "side": "item"},
        ],
    }
)
CONFIG = ColumnsConfig(
    columns=(
        Lookup(key="user_id", feature="user_id", file="users", missing=USERS + 1),
        Lookup(key="history", feature="history", file="items", width=LONGEST),
        Lookup(key="gender", feature="gender", file="genders"),
        Lookup(key="occupation", feature="occupation", file="occupations"),
        Buckets(key="age", feature="age", boundaries=AGES),
    )
)


def _table(rows: NDArray[np.float32], unknown: NDArray[np.float32]) -> tf.Variable:
    """With a row of zeros for padding before, and one for unknown values behind."""
    return tf.Variable(np.concatenate([np.zeros_like(rows[:1]), rows, unknown[np.newaxis]]), trainable=False)


def _pairs(matrix: NDArray) -> tf.Variable:
    """[in, out] as weights [in, 2 out] of a layer whose relu loses nothing."""
    return tf.Variable(np.concatenate([matrix, -matrix], axis=1).astype(np.float32))


def _unpaired(matrix: NDArray) -> NDArray:
    """[in, out] for inputs that come from such a layer, [2 in, out]."""
    return np.concatenate([matrix, -matrix])


class Synthetic(tf.Module):
    """The tower and its signature."""

    def __init__(self, vocabularies: Path) -> None:
        super().__init__()
        random = np.random.default_rng(4)
        users, items = synthetic.user_vectors(), synthetic.item_vectors(KNOWN_ITEMS)
        # Not zeros: of a query that nothing is known of, rounding alone would be left, and that has no direction.
        self.users = _table(users, unknown=users[0])
        self.items = _table(items, unknown=np.zeros_like(items[0]))
        self.small = {
            name: tf.Variable(random.standard_normal((rows, SMALL), np.float32))
            for name, rows in (("gender", 4), ("occupation", len(OCCUPATIONS) + 2), ("age", len(AGES) + 2))
        }
        # The layers' product takes the user's vector and a share of the history's; the small ones weigh nothing.
        wanted = np.zeros((WIDTH, DIMENSION))
        wanted[:DIMENSION] = np.eye(DIMENSION)
        wanted[DIMENSION : 2 * DIMENSION] = HISTORY_SHARE * np.eye(DIMENSION)
        first = np.linalg.qr(random.standard_normal((128, WIDTH)))[0].T  # [88, 128], its transpose undoes it
        turn = np.linalg.qr(random.standard_normal((64, 64)))[0]
        second = np.pad(first.T @ wanted, [(0, 0), (0, 64 - DIMENSION)]) @ turn  # [128, 64]
        self.layers = [
            _pairs(first),
            _pairs(_unpaired(second)),
            tf.Variable(_unpaired(turn.T[:, :DIMENSION]).astype(np.float32)),
        ]
        self.biases = [tf.Variable(tf.zeros([layer.shape[1]])) for layer in self.layers]
        self.tables = {
            column.feature: tf.lookup.StaticVocabularyTable(
                tf.lookup.TextFileInitializer(
                    str(vocabularies / column.file), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
                ),
                num_oov_buckets=1,
            )
            for column in CONFIG.columns
            if isinstance(column, Lookup)
        }  # fmt: skip

    def tower(self, columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        parts = [tf.gather(self.users, columns["user_id"]), mean_of_rows(self.items, columns["history"])]
        parts += [tf.gather(table, columns[name]) for name, table in self.small.items()]
        outputs = tf.concat(parts, axis=1)
        for layer, bias in zip(self.layers[:-1], self.biases[:-1], strict=True):
            outputs = tf.nn.relu(tf.matmul(outputs, layer) + bias)
        return tf.math.l2_normalize(tf.matmul(outputs, self.layers[-1]) + self.biases[-1], axis=1)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user_id"),
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None], tf.string, name="gender"),
            tf.TensorSpec([None], tf.string, name="occupation"),
            tf.TensorSpec([None], tf.float32, name="age"),
        ]
    )
    def serving_default(self, user_id, history, gender, occupation, age):
        given = {"user_id": user_id, "history": history, "gender": gender, "occupation": occupation}
        missing = {"user_id": USERS + 1}
        columns = {
            name: tf.where(values == "", tf.constant(missing.get(name, 0), tf.int64), self.tables[name][values] + 1)
            for name, values in given.items()
        }
        bucket = 1 + tf.searchsorted(AGES, age, side="right", out_type=tf.int64)
        columns["age"] = tf.where(tf.math.is_finite(age), bucket, 0)
        return {"embedding": self.tower(columns)}


def _save_model(folder: Path, vocabularies: Path) -> None:
    model = Synthetic(vocabularies)
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serving_default})
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / TOWER).write_bytes(convert(model.tower, CONFIG))
    (folder / "assets.extra" / COLUMNS).write_text(CONFIG.model_dump_json())


def _write_vocabularies(folder: Path) -> None:
    folder.mkdir()
    values = {
        "users": map(synthetic.user_id, range(USERS)),
        "items": map(synthetic.item_id, range(KNOWN_ITEMS)),
        "genders": GENDERS,
        "occupations": OCCUPATIONS,
    }
    for name, lines in values.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def _stored_queries() -> Iterator[tuple[bytes, bytes]]:
    for user in range(USERS):
        example = tf.train.Example()
        feature = example.features.feature
        query_id = synthetic.user_id(user).encode()
        feature["user_id"].bytes_list.value.append(query_id)
        feature["history"].bytes_list.value.extend(item.encode() for item in synthetic.history(user))
        feature["gender"].bytes_list.value.append(GENDERS[user % 2].encode())
        feature["occupation"].bytes_list.value.append(OCCUPATIONS[user % 21].encode())
        feature["age"].float_list.value.append(10.0 + user % 60)
        yield query_id, example.SerializeToString(deterministic=True)


def build(items: int, folder: Path) -> None:
    """Builds both releases.

    Args:
      items: in the catalogue.
      folder: must not exist.
    """
    work = folder / "work"
    work.mkdir(parents=True)
    _write_vocabularies(work / "vocabularies")
    _save_model(work / "lite", work / "vocabularies")
    shutil.copytree(work / "lite", work / "signature")
    (work / "signature" / "assets.extra" / TOWER).unlink()
    build_index(
        work / "index",
        embeddings=synthetic.item_vectors(items),
        ids=[synthetic.item_id(row).encode() for row in range(items)],
        attributes=[{"category": f"c{row % 50}", "title": f"Title of {row}"} for row in range(items)],
        model_fingerprint=folder_fingerprint(work / "lite"),
    )
    for kind in ("lite", "signature"):
        manifest = read_manifest(work / "index")
        changed = manifest.model_copy(update={"model_fingerprint": folder_fingerprint(work / kind)})
        write_manifest(work / "index", changed)
        write_release(
            folder / kind,
            model_name=synthetic.MODEL_NAME,
            features=SPEC,
            model=work / kind,
            index=work / "index",
            queries=_stored_queries(),
        )
    shutil.rmtree(work)


if __name__ == "__main__":
    build(int(sys.argv[1]), Path(sys.argv[2]))
