from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from models.checkpoints import TrainingCheckpoints, remove_checkpoints
from models.optimizer import LazyAdam


def run(folder: Path) -> tuple[tf.keras.Model, tf.keras.optimizers.Optimizer, TrainingCheckpoints]:
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[2])])
    optimizer = LazyAdam(0.1, jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model, optimizer, TrainingCheckpoints(str(folder / "run"), model, optimizer)


def trained(folder: Path, epochs: int) -> tf.keras.Model:
    model, optimizer, checkpoints = run(folder)
    for epoch in range(epochs):
        optimizer.apply_gradients([(v * 0 + 1, v) for v in model.trainable_variables])
        checkpoints.save(epoch + 1)
    return model


def test_goes_on_with_weights_and_optimizer(tmp_path: Path) -> None:
    before = trained(tmp_path, 3)
    model, optimizer, checkpoints = run(tmp_path)
    assert checkpoints.restore() == 3
    assert int(optimizer.iterations) == 3
    tf.debugging.assert_equal(model.weights[0], before.weights[0])


def test_starts_from_nothing(tmp_path: Path) -> None:
    assert run(tmp_path)[2].restore() == 0


@pytest.mark.parametrize("damage", ["truncated", "index lost", "data lost", "garbled"])
def test_a_half_written_checkpoint_is_passed_over(damage: str, tmp_path: Path) -> None:
    trained(tmp_path, 2)
    data = tmp_path / "run" / "ckpt-2.data-00000-of-00001"
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:20])
    elif damage == "garbled":
        data.write_bytes(bytes(len(data.read_bytes())))
    elif damage == "index lost":
        (tmp_path / "run" / "ckpt-2.index").unlink()
    else:
        data.unlink()
    _, optimizer, checkpoints = run(tmp_path)
    assert checkpoints.restore() == 1
    assert int(optimizer.iterations) == 1


def test_files_of_a_write_that_never_ended_do_no_harm(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    (tmp_path / "run" / "ckpt-2.data-00000-of-00001").write_bytes(b"half")
    assert run(tmp_path)[2].restore() == 1
    trained(tmp_path, 2)
    assert run(tmp_path)[2].restore() == 2


def test_an_unreadable_list_of_checkpoints_starts_anew(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    (tmp_path / "run" / "checkpoint").write_text("")
    assert run(tmp_path)[2].restore() == 0


def test_remove(tmp_path: Path) -> None:
    trained(tmp_path, 1)
    remove_checkpoints(str(tmp_path / "run"))
    remove_checkpoints(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
