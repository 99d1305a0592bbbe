from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.release_validator.canary import problems, spread
from components.release_validator.executor import CanaryRefusedError, Executor
from serving.retriever import Answer, Retriever, load_release
from tests.unit.components.release_pusher.test_executor import Run
from tests.unit.serving import tiny


def validate(run: Run, canary_queries: int = 8) -> standard_artifacts.InfraBlessing:
    blessing = standard_artifacts.InfraBlessing()
    Executor().Do(
        {
            "model": [run.model],
            "model_blessing": [run.blessing],
            "index": [run.index],
            "queries": [run.queries],
        },
        {"blessing": [blessing]},
        {
            "canary_queries": canary_queries,
            "model_name": "tiny",
            "features": tiny.SPEC.model_dump_json(),
            "code_fingerprint": "f",
        },
    )
    return blessing


def test_canaries_are_spread() -> None:
    ids = [b"%d" % i for i in range(9)]
    assert spread(ids, 3) == [b"0", b"4", b"8"]
    assert spread(ids, 20) == ids
    assert spread(ids, 0) == []


def test_a_good_release_passes_and_nothing_is_published(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    assert validate(run).get_int_custom_property("blessed") == 1
    assert not run.root.exists()


def test_without_the_models_blessing_nothing_is_tried(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    run.blessing.set_int_custom_property("blessed", 0)
    (Path(run.index.uri) / "index.json").unlink()
    assert validate(run).get_int_custom_property("blessed") == 0


def test_a_release_that_does_not_load_is_refused(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    (Path(run.index.uri) / "index.json").unlink()
    with pytest.raises(CanaryRefusedError, match=r"canary: the release cannot be loaded: .* look at what"):
        validate(run)


def test_a_query_without_a_number_for_an_answer_is_refused(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    bad = tiny.example(user_id=[b"carl"], w=[float("inf")], tags=[], history=[], seen_items=[])
    run.write_queries([stored for _, stored in tiny.QUERIES] + [bad])
    with pytest.raises(CanaryRefusedError) as error:
        validate(run)
    assert str(error.value).startswith("canary: 1 of 4 queries are not answered well, none may be: query 'carl': ")


def test_what_a_server_would_refuse_is_not_published(tmp_path: Path, model: Path) -> None:
    run = Run(tmp_path, model)
    bad = tiny.example(user_id=[b"carl"], w=[float("inf")], tags=[], history=[], seen_items=[])
    run.write_queries([stored for _, stored in tiny.QUERIES] + [bad])
    # None of the known queries is asked by the gate; a server asks the last one.
    with pytest.raises(CanaryRefusedError, match=r"canary: a server would refuse the release: .*canary query 'carl'"):
        validate(run, canary_queries=0)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("release")
    model = tiny.save_model(folder / "model")
    return load_release(folder / "releases" / str(tiny.publish(folder / "releases", model, folder / "work")))


class Broken(SimpleNamespace):
    """A retriever whose answers are changed on the way."""

    def recommend(self, **request: Any) -> Answer:
        return self.change(self.real.recommend(**request))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: dataclasses.replace(a, hits=a.hits[:-1]), "4 items in 4 places, expected 5"),
        (lambda a: dataclasses.replace(a, hits=[*a.hits[:-1], *a.hits[:1]]), "4 items in 5 places, expected 5"),
        (lambda a: dataclasses.replace(a, hits=a.hits[::-1]), "the scores are not finite numbers, largest first"),
        (lambda a: dataclasses.replace(a, known_query=False), "it is not in the query store"),
    ],
)
def test_what_is_wrong_with_an_answer(retriever: Retriever, change: Any, told: str) -> None:
    assert list(problems(retriever, [b"alice"])) == []
    broken: Any = Broken(real=retriever, change=change, index=retriever.index)
    lines = list(problems(broken, [b"alice"]))
    assert lines[0].startswith("query 'alice': ")
    assert told in lines[0]
