"""The commands `release ...`. TensorFlow is imported only where a release must be tried."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pipeline.config import load_config
from pipeline.options import DEFAULT_CONFIG, ConfigOption, UserError, parse_share
from pipeline.terminal import plain_console
from serving import operations
from serving.state import ServingState

app = typer.Typer(
    no_args_is_help=True,
    help="""List, promote, roll back and prune releases.

    Decisions go to state.json beside the releases: every server of them follows within two seconds plus the time a
    release takes to load, and again after a restart.

    Without a decision the newest whole release answers. A pin holds until the next promote or rollback: a release
    that is pushed meanwhile is neither loaded nor served. While the traffic is split, a new release gets requests
    only when a label is moved to it.
    """,
)

VersionArgument = Annotated[int | None, typer.Argument(min=1, help="The release's version, as list shows it.")]


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Show the releases: whether they are whole, which one answers, and what was decided about them.

    Reads every file, and tries the releases from the newest on, as a server does, until one can answer.
    """
    loaded = load_config(config)
    rows = operations.list_releases(loaded.releases, loaded.serving.version_policy)
    if not rows:
        raise UserError(f"there is no release in {loaded.releases}")
    table = Table("version", "created", "size", "labels", "traffic", "answers", "state")
    for row in rows:
        manifest = row.manifest
        table.add_row(
            str(row.version),
            manifest.created if manifest else "",
            _size(sum(file.bytes for file in manifest.files.values())) if manifest else "",
            ", ".join(row.labels),
            f"{row.share} %" if row.share else "",
            "pinned" if row.pinned else "yes" if row.serving else "",
            "broken" if row.problem else "whole",
        )
    console = plain_console()
    console.print(table)
    for row in rows:
        if row.problem:
            console.print(f"{row.version}: {row.problem}", soft_wrap=True)


@app.command()
def promote(
    version: VersionArgument = None,
    latest: Annotated[bool, typer.Option("--latest", help="Follow the newest release: ends pin and split.")] = False,
    label: Annotated[
        str | None, typer.Option(help="Give the version this label, instead of all requests that name no version.")
    ] = None,
    traffic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=PERCENT",
            help="Split the requests that name no release by hash of the query id, say --traffic stable=90 "
            "--traffic canary=10. The shares add up to 100 and replace the split there was. Requests without a query "
            "id go to the label with the largest share.",
        ),
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="With --traffic: hashed with the query id. Another word deals the queries to the shares anew, so give "
            "each comparison its own; without this option it stays what it was.",
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Have a release answer, or give it a label and a share of the traffic.

    promote VERSION: it answers all requests that name no release; a split of the traffic ends. It is pinned unless it
    is the newest, which is followed by each newer one.

    promote --latest: as if nothing had ever been pinned or split.

    promote VERSION --label canary: the release is loaded beside the others and answers requests for that label.
    Moving a label that has a share of the traffic moves the share.

    promote --traffic stable=90 --traffic canary=10 --salt autumn: splits the traffic anew.
    """
    loaded = load_config(config)
    root = loaded.releases
    split = _split(traffic) if traffic else None
    if salt is not None and split is None:
        raise UserError("--salt goes with --traffic")
    if latest:
        if version is not None or label is not None or split is not None:
            raise UserError("--latest stands alone")
        state = operations.follow_newest(root)
    elif label is not None:
        if version is None:
            raise UserError("--label needs a VERSION")
        state = operations.put_label(root, label, version, split, salt)
    elif version is not None:
        if split is not None:
            raise UserError("a VERSION without --label takes all traffic: give --label, or leave out one of the two")
        state = operations.promote(root, loaded.serving.version_policy, version)
    elif split is not None:
        state = operations.split_traffic(root, split, salt)
    else:
        raise UserError("nothing to promote: give a VERSION, --latest or --traffic")
    _say(state)


@app.command()
def unlabel(
    label: Annotated[str, typer.Argument(help="The label.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take a label away from its release, which is then unloaded unless something else keeps it."""
    _say(operations.remove_label(load_config(config).releases, label))


@app.command()
def rollback(
    to: Annotated[int | None, typer.Option(min=1, help="This version, instead of the one before.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Have the release before the one now served answer, and pin it.

    The pin keeps the servers from going forward again: newer releases, also those pushed later, are not served until
    promote VERSION or promote --latest. A split of the traffic ends; if there is one, "now served" is the newest
    release with a share. Labels stay as they are. Releases that a server would refuse are passed over: each is tried.
    """
    loaded = load_config(config)
    _say(operations.rollback(loaded.releases, loaded.serving.version_policy, to))


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest releases stay.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Remove old releases.

    Never one that is pinned, labelled or served, nor the one before it, which a rollback would need. What is served is
    found by trying the releases as a server does, with the version policy of this configuration.
    """
    loaded = load_config(config)
    removed = operations.prune(loaded.releases, loaded.serving.version_policy, keep)
    typer.echo(f"removed: {', '.join(map(str, removed)) or 'none'}")


def _split(traffic: list[str]) -> dict[str, int]:
    shares: dict[str, int] = {}
    for part in traffic:
        label, percent = parse_share("--traffic", part)
        if label in shares:
            raise UserError(f"--traffic: label {label!r} stands twice")
        shares[label] = percent
    return shares


def _say(state: ServingState) -> None:
    if state.traffic:
        shares = ", ".join(f"{label} {share} %" for label, share in sorted(state.traffic.items()))
        typer.echo(f"traffic: {shares}" + (f"; salt {state.salt}" if state.salt else ""))
    elif state.pinned is not None:
        typer.echo(f"pinned: version {state.pinned}")
    else:
        typer.echo("the newest release answers")
    if state.labels:
        typer.echo("labels: " + ", ".join(f"{label} {version}" for label, version in sorted(state.labels.items())))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
