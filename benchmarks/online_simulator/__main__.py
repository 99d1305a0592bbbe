"""Two releases side by side behind the real server, in a shop whose truth is known."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.online_simulator.asking import AnswerError, retrieved, visit, wait_for_split
from benchmarks.online_simulator.coverage import Tally, table
from benchmarks.online_simulator.releases import publish
from benchmarks.online_simulator.weeks import Week, draw, sums, write_logs
from benchmarks.online_simulator.world import PEOPLE, Behaviour, World
from benchmarks.serving.process import serving
from pipeline.online_comparison.comparison import compare_labels
from serving import operations
from serving.client import RetrievalClient

ROOT = Path("runs/bench/online_simulator")
WORLD_SEED, NOISE_SEED = 1, 2
# "same" is published as a release of its own, with the vectors of "base".
NOISE = {"base": 0.3, "better": 0.22, "same": 0.3}
CASES: dict[str, dict[str, int]] = {
    "A/A, 50:50": {"base": 50, "same": 50},
    "A/B, 50:50": {"base": 50, "better": 50},
    "A/B, 90:10": {"base": 90, "better": 10},
}


def main(
    weeks: Annotated[int, typer.Option(min=1, help="Simulated weeks of each case.")] = 2_000,
    users: Annotated[int, typer.Option(min=100, help="Users of a week.")] = 4_000,
    people: Annotated[int, typer.Option(min=100, help="Whom the users are drawn from.")] = PEOPLE,
) -> None:
    """Checks `python -m pipeline ab` against the truth: coverage, false alarms, power, sample ratio.

    The server is asked for what each person gets under each label, and once for each visit of the first week of each
    case, whose logs `ab` then reads. The other weeks are drawn from those answers, which do not change from visit to
    visit, with the server's own function for the split.
    """
    shutil.rmtree(ROOT, ignore_errors=True)
    world = World(WORLD_SEED, people)
    releases = ROOT / "releases"
    versions = {
        label: publish(releases, ROOT / f"work-{label}", world, noise, NOISE_SEED) for label, noise in NOISE.items()
    }
    for label, version in versions.items():
        operations.put_label(releases, label, version, None)
    everybody = np.arange(people)
    cases = {}
    with serving(releases, ROOT) as server, RetrievalClient(server.address) as client:
        behaviours = {}
        for label, version in versions.items():
            _tell(f"asking for {people:,} people under {label}")
            behaviours[label] = world.behaviour(world.rank(everybody, retrieved(client, people, label, version)))
        for number, (name, traffic) in enumerate(CASES.items()):
            operations.split_traffic(releases, traffic)
            wait_for_split(client, traffic)
            pair = tuple(behaviours[label] for label in traffic)
            _tell(f"{name}: a week of visits to the server")
            live = _live(client, world, draw(world, pair, traffic, users, (number, 0)), pair, traffic)
            _tell(f"{name}: {weeks:,} weeks")
            cases[name] = {**_many(world, pair, traffic, users, weeks, number), "live": live}
    text = "\n".join(table(cases))
    (ROOT / "results.json").write_text(json.dumps(cases, indent=2) + "\n")
    print(text)


def _many(
    world: World,
    behaviours: tuple[Behaviour, Behaviour],
    traffic: Mapping[str, int],
    users: int,
    weeks: int,
    case: int,
) -> dict[str, Any]:
    control, treatment = (world.truth(behaviour) for behaviour in behaviours)
    first, second = traffic.values()
    tally = Tally({name: (control[name], treatment[name]) for name in control}, (first, second))
    labels = tuple(traffic)
    for week in range(1, weeks + 1):
        tally.add(sums(draw(world, behaviours, traffic, users, (case, week)), behaviours, labels))
    return tally.result()


def _live(
    client: RetrievalClient,
    world: World,
    week: Week,
    behaviours: tuple[Behaviour, Behaviour],
    traffic: Mapping[str, int],
) -> dict[str, Any]:
    """A week in which the server is asked at each visit; its logs through the command line.

    Returns:
      How many visits, and what `ab` wrote as JSON.

    Raises:
      AnswerError: the server answered otherwise than it did when asked by label, or `ab` found other figures.
    """
    labels = tuple(traffic)

    def show(user: int) -> tuple[str, NDArray[np.int64]]:
        person, expected = week.person[user], int(week.label[user])
        label, items = visit(client, world, week.ids[user], person)
        if label != labels[expected] or not np.array_equal(items, behaviours[expected].shown[person]):
            raise AnswerError(f"query {week.ids[user]}: {label} answered with {items}")
        return label, items

    impressions, outcomes = write_logs(week, behaviours, show, ROOT)
    arguments = ["--impressions", impressions, "--outcomes", outcomes, "--json", ROOT / "ab.json"]
    for side, (label, percent) in zip(("--control", "--treatment"), traffic.items(), strict=True):
        arguments += [side, f"{label}={percent}"]
    subprocess.run([sys.executable, "-m", "pipeline", "ab", *map(str, arguments)], check=True, stdout=sys.stderr)
    found = json.loads((ROOT / "ab.json").read_text())
    first, second = traffic.values()
    for name, metric in compare_labels(sums(week, behaviours, labels), (first, second)).metrics.items():
        expected = [metric.difference, metric.low, metric.high]
        if not np.allclose(found["metrics"][name]["difference"], expected, rtol=1e-9):
            raise AnswerError(f"{name}: ab found {found['metrics'][name]['difference']}, expected {expected}")
    return {"visits": len(week.visitor), "ab": found}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
