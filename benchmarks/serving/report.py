"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def table(results: Mapping) -> str:
    """Three tables: the requests, the search beside other libraries, the start."""
    cores, load = results["machine"]["cores"], results["load_before"][0]
    return "\n".join(
        [
            f"{cores} cores, load {load:.1f} before; top 100; every answer was checked.",
            "",
            *_requests(results["catalogues"]),
            "",
            *_searches(results["catalogues"]),
            "",
            *_starts(results),
        ]
    )


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _requests(catalogues: list[Mapping]) -> Iterator[str]:
    yield _row(
        "items", "server", "asked by", "requests/s", "p50 ms", "p99 ms",
        "CPU us/request", "of the limit", "memory MiB", "generator's cores",
    )  # fmt: skip
    yield "|" + "---|" * 10
    for catalogue in catalogues:
        items, limit = f"{catalogue['items']:,}", catalogue["inside"]["both"]
        times = f"{limit['p50_us'] / 1e3:.2f}", f"{limit['p99_us'] / 1e3:.2f}", f"{limit['cpu_us']:.0f}"
        yield _row(items, "none: tower, search", "one loop", f"{1e6 / limit['p50_us']:.0f}", *times, 1, "", "")
        for server, asked in {"none: gRPC": catalogue["empty"], **catalogue["servers"]}.items():
            for how, measured in asked.items():
                if how != "start_seconds":
                    yield _row(items, server, how, *_measured(measured, limit["cpu_us"]))


def _measured(measured: Mapping, limit: float) -> tuple[str, ...]:
    return (
        f"{measured['per_second']:.0f}",
        f"{measured['p50_ms']:.2f}",
        f"{measured['p99_ms']:.2f}",
        f"{measured['cpu_us']:.0f}",
        f"{measured['cpu_us'] / limit:.2f}",
        f"{measured['memory_mib']:.0f}",
        f"{measured['generator_cores']:.2f}",
    )


def _searches(catalogues: list[Mapping]) -> Iterator[str]:
    yield _row("items", "search, one thread", "recall@100", "p50 us", "p99 us")
    yield "|" + "---|" * 5
    for catalogue in catalogues:
        inside = catalogue["inside"]
        ours = {"name": "this index", "recall": inside["recall"], **inside["search"]}
        for found in (ours, *inside["peers"]):
            figures = f"{found['recall']:.4f}", f"{found['p50_us']:.0f}", f"{found['p99_us']:.0f}"
            yield _row(f"{catalogue['items']:,}", found["name"], *figures)


def _starts(results: Mapping) -> Iterator[str]:
    yield _row("items", "server", "start to ready, s", "less TensorFlow's import, s")
    yield "|" + "---|" * 4
    for catalogue in results["catalogues"]:
        for server, asked in catalogue["servers"].items():
            seconds = asked["start_seconds"]
            beyond = seconds - results["tensorflow_seconds"]
            yield _row(f"{catalogue['items']:,}", server, f"{seconds:.1f}", f"{beyond:.1f}")
