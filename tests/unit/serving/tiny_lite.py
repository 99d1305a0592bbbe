"""The tiny model of tests.unit.serving.tiny as TensorFlow Lite, put beside its SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from models.columns import ColumnsConfig, Lookup, Moment, ZScore
from models.lite import COLUMNS, TOWER, convert

CONFIG = ColumnsConfig(
    columns=(
        Lookup(key="user", feature="user_id", file="users"),
        ZScore(key="w", feature="w", mean=0.0, deviation=1.0, limit=1e6),
        Lookup(key="tags", feature="tags", file="words", width=3),
        Lookup(key="history", feature="history", file="words", width=2),
        Moment(key="moment", feature="time", unit=1, shift=0, period=1000),
    )
)


def add_lite(folder: Path, offset: float = 0.0) -> Path:
    """Writes tower.tflite, tower.json and the vocabularies; `offset` is added to the first number."""

    def tower(columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
        alice = tf.cast(columns["user"] == 1, tf.float32)
        filled = [tf.reduce_sum(tf.cast(columns[key] > 0, tf.float32), axis=1) for key in ("tags", "history")]
        moment = tf.cast(columns["moment"] - 1, tf.float32)
        return tf.stack([columns["w"] + 100.0 * alice + offset, *filled, moment], axis=1)

    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / TOWER).write_bytes(convert(tower, CONFIG))
    (extra / COLUMNS).write_text(CONFIG.model_dump_json())
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "users").write_bytes(b"alice\n")
    (folder / "assets" / "words").write_bytes(b"x\ni1\n")
    return folder
