"""The command `ab`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.exit_codes import REFUSED
from pipeline.options import UserError, parse_share

_LABEL = "LABEL=PERCENT"
SMALLEST_EFFECT = 1e-6  # below it the users that it takes are no number


def _log(columns: str) -> Any:
    return typer.Option(exists=True, dir_okay=False, help=f"CSV with the columns {columns}. May be given again.")


def ab(
    impressions: Annotated[list[Path], _log("impression_id, time, query_id, label, item_id, position")],
    outcomes: Annotated[list[Path], _log("impression_id, item_id, time, kind, value")],
    control: Annotated[str, typer.Option(metavar=_LABEL, help="The label to compare with, and its share.")],
    treatment: Annotated[str, typer.Option(metavar=_LABEL, help="The label to judge, and its share.")],
    detect: Annotated[
        float | None, typer.Option(help="A relative effect to plan for, say 0.02: its power, and the users it takes.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to it too.")
    ] = None,
) -> None:
    """Compare two labels that were served side by side, by what people clicked and ordered.

    Both logs are CSV in UTF-8 with a header, .gz unpacked; other columns may be there. One row of impressions for each
    item shown: impression_id (of one answer shown), time (unix seconds), query_id (whom the traffic is split by), label
    (from the answer), item_id, position (from 1). One row of outcomes for each click and order: impression_id and
    item_id of what was shown, time, kind (click or order), value (an order's money; nothing for a click).

    The shares are those of `release promote --traffic`. CTR, GMV per user and GMV per impression are compared over
    users, not over impressions; docs/online_comparison.md says how.

    Exit code 0: done. 1: a log is broken. 3: the figures are not to be trusted, and why.
    """
    from pipeline.online_comparison.comparison import compare_labels
    from pipeline.online_comparison.logs import read_logs
    from pipeline.online_comparison.report import as_json, print_result

    (control_label, control_share), (treatment_label, treatment_share) = (
        parse_share("--control", control),
        parse_share("--treatment", treatment),
    )
    if control_label == treatment_label:
        raise UserError(f"--control and --treatment are both {control_label!r}")
    if min(control_share, treatment_share) < 1:
        raise UserError("--control and --treatment: expected shares from 1 percent on")
    if control_share + treatment_share > 100:
        raise UserError("--control and --treatment: expected shares of 100 percent together at most")
    if detect is not None and not SMALLEST_EFFECT <= abs(detect) < 10:
        raise UserError(f"--detect {detect}: expected a relative effect, say 0.02 for 2 percent")
    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}")
    logs = read_logs(impressions, outcomes, control_label, treatment_label)
    result = compare_labels(logs, (control_share, treatment_share))
    print_result(result, detect)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(as_json(result, detect), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--json {json_file}: cannot be written: {error.strerror}") from error
    if result.problems:
        typer.echo("\n".join(f"not to be trusted: {problem}" for problem in result.problems), err=True)
        raise typer.Exit(REFUSED)
