from pathlib import Path

import numpy as np
import pytest

from benchmarks.online_simulator.asking import AnswerError, retrieved, wait_for_split
from benchmarks.online_simulator.coverage import Tally, share, table
from benchmarks.online_simulator.weeks import draw, sums, write_logs
from benchmarks.online_simulator.world import EXAMINED, SHOWN, Behaviour, World, item_id
from pipeline.online_comparison.logs import Arm, LeftOut, Logs, read_logs
from serving.client import Item, Recommendations, Request, RetrievalError
from serving.served import pick

PEOPLE = 50
TRAFFIC = {"base": 70, "better": 30}


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=3, people=PEOPLE, items=40)


@pytest.fixture(scope="module")
def behaviours(world: World) -> tuple[Behaviour, Behaviour]:
    """Whatever comes first, and what people like most."""
    first = np.tile(np.arange(SHOWN), (PEOPLE, 1))
    best = np.argsort(-(world.tastes @ world.items.T), axis=1)[:, :SHOWN]
    return world.behaviour(first), world.behaviour(best)


def test_truth_by_hand(world: World) -> None:
    # Each shown item is clicked with 0.2, ordered with 0.5 if clicked, and costs 30: 2 clicks and 30 of money a visit.
    constant = np.ones((PEOPLE, SHOWN))
    truth = world.truth(Behaviour(np.zeros((PEOPLE, SHOWN), int), 0.2 * constant, 0.5 * constant, 30 * constant))
    visits = 1 + world.rate.mean()
    assert truth == pytest.approx({"CTR": 0.2, "GMV/user": 30 * visits, "GMV/impression": 3.0})


def test_people_look_at_the_top_and_click_what_they_like(world: World, behaviours: tuple[Behaviour, Behaviour]) -> None:
    assert EXAMINED[0] == 1
    assert EXAMINED[3] == pytest.approx(4**-0.7)
    same = world.behaviour(np.zeros((PEOPLE, SHOWN), int))
    assert same.click == pytest.approx(same.click[:, :1] * EXAMINED)
    # sigmoid(-3.5 + 3 liking + a)
    liking = float(world.tastes[7] @ world.items[0])
    assert same.click[7, 0] == pytest.approx(1 / (1 + np.exp(3.5 - 3 * liking - world.clicks_at_all[7])))
    first, best = (world.truth(behaviour) for behaviour in behaviours)
    assert best["CTR"] > 1.5 * first["CTR"]


def test_weeks_are_about_the_truth(world: World, behaviours: tuple[Behaviour, Behaviour]) -> None:
    week = sums(draw(world, behaviours, TRAFFIC, 20_000, (1,)), behaviours, ("base", "better"))
    for arm, behaviour in zip((week.control, week.treatment), behaviours, strict=True):
        truth = world.truth(behaviour)
        # A user's clicks have a standard deviation of some 6, their money of some 100; 6,000 users and more.
        assert arm.clicks.sum() / arm.impressions.sum() == pytest.approx(truth["CTR"], rel=0.08)
        error = arm.value.std() / np.sqrt(arm.users)
        assert arm.value.mean() == pytest.approx(truth["GMV/user"], abs=4 * error)


def test_written_logs_are_read_as_they_were_drawn(
    world: World, behaviours: tuple[Behaviour, Behaviour], tmp_path: Path
) -> None:
    week = draw(world, behaviours, TRAFFIC, 300, (2,))
    names = tuple(TRAFFIC)
    assert [names[label] for label in week.label] == [pick(TRAFFIC, query_id) for query_id in week.ids]

    def show(user: int) -> tuple[str, np.ndarray]:
        return names[week.label[user]], behaviours[week.label[user]].shown[week.person[user]]

    impressions, outcomes = write_logs(week, behaviours, show, tmp_path)
    found, expected = read_logs([impressions], [outcomes], "base", "better"), sums(week, behaviours, ("base", "better"))
    assert found.left_out == LeftOut()
    assert found.days == pytest.approx(7, abs=0.02)
    for one, other in ((found.control, expected.control), (found.treatment, expected.treatment)):
        for column in ("impressions", "clicks", "orders"):
            assert sorted(getattr(one, column)) == sorted(getattr(other, column))
        assert np.sort(one.value) == pytest.approx(np.sort(other.value))
    assert expected.treatment.orders.sum() > 0


def test_another_seed_is_another_week(world: World, behaviours: tuple[Behaviour, Behaviour]) -> None:
    one, again, other = (draw(world, behaviours, TRAFFIC, 100, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert np.array_equal(one.clicks, again.clicks)
    assert not set(one.ids) & set(other.ids)


def test_tally() -> None:
    # Control 1 and treatment 2 of 4 items clicked, by each of 100 users; nothing varies but the money.
    value = np.tile([1.0, 3.0], 50)
    arms = [
        Arm(name, np.full(100, 4.0), np.full(100, float(clicks)), np.ones(100), value)
        for name, clicks in (("a", 1), ("b", 2))
    ]
    truth = {"GMV/user": (2.0, 2.0), "CTR": (0.25, 0.45)}
    arms[0].clicks[:50] += 0.5
    arms[0].clicks[50:] -= 0.5
    tally = Tally(truth, (50, 50))
    for _ in range(4):
        tally.add(Logs(*arms, 7.0, LeftOut()))
    found = tally.result()
    assert found["metrics"]["GMV/user"]["coverage"] == share(4, 4)
    assert found["metrics"]["GMV/user"]["significant"] == share(0, 4)
    # The mean of 100 users of 0.125 or 0.375 is known to 0.0125 (with n - 1: 0.01256): 0.05 is four of them away.
    assert found["metrics"]["CTR"]["coverage"] == share(0, 4)
    assert found["metrics"]["CTR"]["mean_standard_error"] == pytest.approx(0.125 / np.sqrt(99))
    # As 400 impressions each, var = (0.25 * 0.75 + 0.5 * 0.5) / 400 = 0.033^2: it has 0.2 about 0.25.
    assert found["naive_ctr_coverage"] == share(4, 4)
    # 85 of 185 users are (7.5^2 / 92.5) 2 = 1.2 from half and half.
    assert found["sample_ratio"]["mismatch_with_loss"] == share(0, 4)
    assert "| x | CTR | +80.00% | 0.0% [0.0%, 49.0%] |" in "\n".join(table({"x": found}))


class Stub:
    """Answers for `label`, release 7."""

    def __init__(self, label: str = "base") -> None:
        self.label = label

    def recommend_batch(
        self, requests: list[Request], label: str, timeout: float
    ) -> list[Recommendations | RetrievalError]:
        items = tuple(Item(item_id(number), 1.0, {}) for number in range(3))
        answer = Recommendations(items, 7, 7, "", self.label, False, False, (), (), (), 0, 0, 0)
        return [RetrievalError("INTERNAL", "no") if request.query_id == "p70" else answer for request in requests]


def test_answers_of_another_release_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert retrieved(Stub(), 2, "base", 7).tolist() == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(AnswerError, match="label better, version 7 was asked, base 7 answered"):
        retrieved(Stub(), 2, "better", 7)
    with pytest.raises(AnswerError, match="label base, version 8 was asked, base 7 answered"):
        retrieved(Stub(), 2, "base", 8)
    with pytest.raises(AnswerError, match="INTERNAL: no"):
        retrieved(Stub(), 71, "base", 7)
    monkeypatch.setattr("benchmarks.online_simulator.asking.PATIENCE", 0.0)
    with pytest.raises(AnswerError, match="does not split the traffic"):
        wait_for_split(Stub("better"), TRAFFIC)
    wait_for_split(Stub(), {"base": 100})
