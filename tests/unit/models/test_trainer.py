from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from models import trainer, warm_start
from models.config import MODELS, ModelConfig, Objective, TrainConfig, WarmStartConfig
from models.dat import DAT
from models.features import ITEM_VOCABULARY
from models.registry import model_class
from models.retrieval_model import Catalogue, RetrievalModel
from tests.unit.models import helpers
from tests.unit.models.toy import ITEMS, Toy

pytestmark = pytest.mark.slow

MODEL = ModelConfig(
    embedding_dim=8, augmented_dim=8, output_dim=8, hidden_units=(16,), last_activation="linear",
    objective="in_batch_softmax", temperature=0.2, share_item_embedding=True, unknown_rate=0.1,
    mimic={"normalise": True, "start": 0.5}, alignment={"weight": 0.01},
)  # fmt: skip
LEARNS_BY_GRADIENT = [kind for kind in MODELS if model_class(kind).learns_by_gradient]
NOT_LITE = "the query tower is served by the SavedModel alone: feature 'about' is text"
TRAIN = TrainConfig(epochs=3, batch_size=32, learning_rate=0.01)


def embeddings(folder: Path, signature: str, rows: list[helpers.Row]) -> np.ndarray:
    loaded = tf.saved_model.load(str(folder / "Format-Serving"))
    examples = tf.constant([helpers.example(row) for row in rows])
    return loaded.signatures[signature](examples=examples)["embedding"].numpy()


def held_out_ranks(folder: Path, toy: Toy) -> np.ndarray:
    """Rank of each query's sixth item among the seven it has not chosen; ties count against it."""
    queries = embeddings(folder, "serialized_examples", toy.raw_held_out)
    items = embeddings(folder, "item_examples", toy.raw_items)
    ranks = []
    if queries.ndim == 2:
        queries = queries[:, np.newaxis]
    for row, scores in zip(toy.raw_held_out, (queries @ items.T).max(axis=1), strict=True):
        chosen = {r["item"][0] for r in toy.raw_train if r["user"] == row["user"]}
        own = scores[ITEMS.index(row["item"][0])]
        others = [s for item, s in zip(ITEMS, scores, strict=True) if item not in chosen and item != row["item"][0]]
        assert len(others) == 6
        ranks.append(1 + sum(s >= own for s in others))
    return np.array(ranks)


@pytest.mark.parametrize(
    "model",
    [
        *(MODEL.model_copy(update={"kind": kind}) for kind in LEARNS_BY_GRADIENT),
        MODEL.model_copy(update={"objective": Objective.SAMPLED_BCE}),
        MODEL.model_copy(update={"objective": Objective.SAMPLED_SOFTMAX, "learn_temperature": True}),
    ],
    ids=[*LEARNS_BY_GRADIENT, "sampled_bce", "sampled_softmax, learned temperature"],
)
def test_learns_who_likes_what(model: ModelConfig, toy: Toy, tmp_path: Path) -> None:
    trainer.run_fn(toy.fn_args(tmp_path, model, TRAIN.model_copy(update={"epochs": 15})))
    ranks = held_out_ranks(tmp_path, toy)
    # By chance the mean of 1 / rank over seven is 0.37; if all embeddings were one point, 0.14.
    assert (1 / ranks).mean() > 0.9
    assert list((tmp_path / "logs").rglob("events.out.tfevents*"))
    assert json.loads((tmp_path / "start.json").read_text())["cold"] == "train.warm_start is not set"
    assert not list((tmp_path / "checkpoints").iterdir())


def test_matrix_factorization_learns_without_epochs_or_negatives(
    toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="retrieval.progress")
    config = ModelConfig(kind="matrix_factorization", output_dim=2, als={"iterations": 5, "alpha": 10.0})
    negatives = json.dumps({"per_positive": 0, "sampling": "uniform", "alpha": 0.75})
    trainer.run_fn(toy.fn_args(tmp_path, config, TRAIN, negatives=negatives))
    assert (1 / held_out_ranks(tmp_path, toy)).mean() > 0.9
    assert progress_told(caplog) == [*(f"iteration {i} of 5" for i in range(1, 6)), NOT_LITE]
    assert not (tmp_path / "checkpoints").exists()
    # Embedded by their history alone, the queries find their group too.
    strangers = embeddings(
        tmp_path, "serialized_examples", [{**row, "user": [f"new{i}"]} for i, row in enumerate(toy.raw_held_out)]
    )
    items = embeddings(tmp_path, "item_examples", toy.raw_items)
    assert [int(s.argmax()) % 2 for s in strangers @ items.T] == [u % 2 for u in range(60)]


class Killed(Exception):
    pass


def trained(toy: Toy, folder: Path, config: TrainConfig) -> list[np.ndarray]:
    """The variables of a model that was trained, in the order of their making."""
    settings = trainer.Settings.parse(toy.fn_args(folder, MODEL, config).custom_config)
    files = [[str(file) for file in part.iterdir()] for part in (toy.train, toy.items)]
    model = trainer.train(settings, *files, toy.transform_output, [])
    return [variable.numpy() for variable in model.trainable_variables]


def kill_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_epoch_begin(self: trainer.Progress, begun: int, logs: object = None) -> None:
        if begun == epoch:
            raise Killed

    monkeypatch.setattr(trainer.StopOnBadLoss, "on_epoch_begin", on_epoch_begin)


@pytest.mark.parametrize(
    ("max_steps", "rows", "epochs"),
    [
        (None, 10, 20),
        (2000, 98_344, 20),  # 96 steps an epoch: 2000 would take 21
        (2000, 176_139, 12),  # 172: 11 are 1892, 12 are 2064
        (2000, 683_317, 3),  # 667: 3 are 2001
        (1, 5, 1),  # a batch that is not full is one step all the same
    ],
)
def test_steps_bound_the_epochs(max_steps: int | None, rows: int, epochs: int) -> None:
    config = TrainConfig(epochs=20, max_steps=max_steps, batch_size=1024)
    assert trainer.planned_epochs(config, rows) == epochs


def test_a_cold_run_is_told_its_steps_and_one_that_goes_on_is_not(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(DAT, "plan_steps", lambda model, steps: told.append(steps))
    monkeypatch.setattr(DAT, "fit", lambda model, batches, **more: None)
    warm = TRAIN.model_copy(update={"warm_start": WarmStartConfig()})
    settings = trainer.Settings.parse(toy.fn_args(tmp_path, MODEL, warm).custom_config)
    files = [[str(file) for file in folder.iterdir()] for folder in (toy.train, toy.items)]
    trainer.train(settings, *files, toy.transform_output, [])
    assert told == [27]  # 300 rows are nine full batches of 32, three times
    everything = np.ones(len(ITEMS), bool)
    earlier = SimpleNamespace(folder="earlier", apply=lambda *given, **more: None, knows_items=lambda graph: everything)
    trainer.train(settings, *files, toy.transform_output, [], earlier)  # type: ignore[arg-type]
    assert told == [27]


@pytest.mark.parametrize("kind", ["dat", "factorization_machine", "youtube_dnn"])
@pytest.mark.parametrize(
    ("rate", "known", "as_unknown"), [(0.1, None, [3, 7]), (0.1, [7], [3]), (0.1, [3, 7], []), (0.0, None, [])]
)
def test_what_nobody_has_chosen_ends_as_unknown(
    kind: str,
    rate: float,
    known: list[int] | None,
    as_unknown: list[int],
    toy: Toy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`known`: candidates without a train row that the model which training goes on from knew; None: a cold run."""
    load = trainer.data.load_catalogue

    def without_two(*given: object) -> Catalogue:
        catalogue = load(*given)
        catalogue.counts[[3, 7]] = 0
        return catalogue

    monkeypatch.setattr(trainer.data, "load_catalogue", without_two)
    monkeypatch.setattr(RetrievalModel, "fit", lambda model, batches, **more: None)
    config = MODEL.model_copy(update={"kind": kind, "unknown_rate": rate})
    train = TRAIN.model_copy(update={"warm_start": WarmStartConfig()})
    settings = trainer.Settings.parse(toy.fn_args(tmp_path, config, train).custom_config)
    files = [[str(file) for file in folder.iterdir()] for folder in (toy.train, toy.items)]
    knows = np.isin(np.arange(len(ITEMS)), known or [])
    earlier = SimpleNamespace(folder="earlier", apply=lambda *given, **more: None, knows_items=lambda graph: knows)
    model = trainer.train(settings, *files, toy.transform_output, [], None if known is None else earlier)  # type: ignore[arg-type]
    names = warm_start.table_vocabularies(model, settings.spec)
    tables = [v.numpy() for v, name in zip(model.trainable_variables, names, strict=True) if name == ITEM_VOCABULARY]
    # The id's and the augmented vectors; factors and weights; the output vectors.
    assert len(tables) == {"dat": 2, "factorization_machine": 2, "youtube_dnn": 1}[kind]
    for table in tables:
        same = (table[1:-1] == table[-1]).all(axis=1)
        assert np.flatnonzero(same).tolist() == as_unknown


def progress_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The head of each progress message: other loggers (TensorFlow's) write to the same capture."""
    return [r.getMessage().split(",")[0] for r in caplog.records if r.name == "retrieval.progress"]


def test_goes_on_after_it_was_killed(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="retrieval.progress")
    args = toy.fn_args(tmp_path, MODEL, TRAIN)
    with monkeypatch.context() as patch:
        kill_after(1, patch)
        with pytest.raises(Killed):
            trainer.run_fn(args)
    assert not (tmp_path / "Format-Serving").exists()
    (run,) = (tmp_path / "checkpoints").iterdir()
    assert run.name.startswith("code-")
    assert progress_told(caplog) == ["epoch 1 of 3"]

    caplog.clear()
    trainer.run_fn(args)
    assert progress_told(caplog) == ["going on after epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3", NOT_LITE]
    assert not run.exists()


def test_a_run_with_another_config_or_input_starts_anew(toy: Toy, tmp_path: Path) -> None:
    settings = trainer.Settings.parse(toy.fn_args(tmp_path, MODEL, TRAIN).custom_config)
    other_model = trainer.Settings.parse(
        toy.fn_args(tmp_path, MODEL.model_copy(update={"dropout": 0.5}), TRAIN).custom_config
    )
    other_code = trainer.Settings.parse(toy.fn_args(tmp_path, MODEL, TRAIN, fingerprint="new").custom_config)
    folders = {
        settings.run_folder(["a"]), settings.run_folder(["b"]),
        other_model.run_folder(["a"]), other_code.run_folder(["a"]),
    }  # fmt: skip
    assert len(folders) == 4
    assert settings.run_folder(["a"]) in folders


def test_equal_seeds_give_equal_models(toy: Toy, tmp_path: Path) -> None:
    first, second = (trained(toy, tmp_path / name, TRAIN) for name in "ab")
    other = trained(toy, tmp_path / "c", TRAIN.model_copy(update={"seed": 8}))
    assert len(first) > 10
    for x, y in zip(first, second, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)
    assert not all(np.allclose(x, y, atol=1e-5) for x, y in zip(first, other, strict=True))


def test_a_loss_that_is_not_finite_stops_the_run(toy: Toy, tmp_path: Path) -> None:
    args = toy.fn_args(tmp_path, MODEL, TRAIN.model_copy(update={"learning_rate": 1e38}))
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) in epoch \d, step \d: try a smaller"):
        trainer.run_fn(args)
    assert not (tmp_path / "Format-Serving").exists()


@pytest.mark.parametrize("objective", ["sampled_bce", "sampled_softmax"])
def test_a_sampled_objective_without_negatives_is_refused(objective: str, toy: Toy, tmp_path: Path) -> None:
    negatives = json.dumps({"per_positive": 0, "sampling": "uniform", "alpha": 0.75})
    args = toy.fn_args(tmp_path, ModelConfig(objective=objective), TRAIN, negatives=negatives)
    with pytest.raises(ValueError, match=rf"{objective} needs negatives, but negatives\.per_positive is 0"):
        trainer.run_fn(args)
