"""The command line. Imports TensorFlow only in the commands that need it."""

from __future__ import annotations

import atexit
import gc
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from pipeline import releases_cli
from pipeline.config import ConfigError, PipelineConfig, load_config
from pipeline.datasets import DOWNLOADED, FROM_FOLDER, DatasetError
from pipeline.exit_codes import FAILED, NOT_YET, REFUSED
from pipeline.online_comparison.command import ab
from pipeline.options import DEFAULT_CONFIG, ConfigOption, UserError
from pipeline.stages import Stage
from serving.release import ReleaseError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Retrieval for recommendation: raw interactions in, a served top-K out.

    A first tour:

      python -m pipeline data movielens

      python -m pipeline run --config configs/movielens.yaml

      python -m pipeline serve --config configs/movielens.yaml

      python -m pipeline recommend --query-id 42 --k 10     (in another terminal)

    For data of your own, copy configs/your_data.yaml, in which every key is explained.
    """,
)

app.add_typer(releases_cli.app, name="release")
app.command()(ab)

WaitOption = Annotated[float, typer.Option(min=0, help="Seconds to wait for another run of the pipeline to end.")]
SpanOption = Annotated[int, typer.Option(min=0, help="The span to run for; {SPAN} in file patterns.")]


@app.command()
def data(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join([*DOWNLOADED, *FROM_FOLDER])}.")],
    folder: Annotated[Path | None, typer.Option(file_okay=False, help="Where to write; default: data/NAME.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="ta_feng_daily: the folder of ta_feng. "
            "amazon_beauty: the folder with Beauty.txt and Beauty_item2attributes.json from folder data of the public "
            "repository RUCAIBox/CIKM2020-S3Rec, "
            "or with interactions.csv.gz and items.csv.gz made of them.",
        ),
    ] = None,
) -> None:
    """Write a public data set as CSV files that the pipeline reads; those without --source are downloaded."""
    target = folder or Path("data") / name
    if name in FROM_FOLDER:
        if source is None:
            raise UserError(f"{name} is not downloaded: give the folder of its files with --source (see --help)")
        FROM_FOLDER[name](source, target)
    elif name not in DOWNLOADED:
        raise UserError(f"no data set {name!r}; there is: {', '.join([*DOWNLOADED, *FROM_FOLDER])}")
    elif source is not None:
        raise UserError(f"{name} is downloaded: leave out --source")
    else:
        DOWNLOADED[name](target)
    typer.echo(f"{name}: {', '.join(sorted(p.name for p in target.iterdir()))} in {target}")


@app.command()
def validate(config: ConfigOption = DEFAULT_CONFIG, span: SpanOption = 0) -> None:
    """Check a configuration and the data it names, without running anything."""
    loaded = load_config(config)
    _check_inputs(loaded, span)
    typer.echo(f"{config}: the configuration is valid and its files have the columns it names")


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    span: SpanOption = 0,
    until: Annotated[Stage, typer.Option(help="The last stage to run; what has run before comes from the cache.")] = (
        Stage.RELEASE
    ),
    wait: WaitOption = 0,
    beam_arg: Annotated[
        list[str] | None,
        typer.Option(
            help="A Beam option for all components, such as --runner=FlinkRunner. May be given several times."
        ),
    ] = None,
) -> None:
    """Run the pipeline: ingest, check, transform, sample, train, evaluate, index, release.

    Exit code 0: done. 1: failed. 3: a gate refused the data, the model or the release, and says why.
    """
    from pipeline.report import print_run
    from pipeline.run import RefusedError, run_pipeline

    loaded = load_config(config)
    _check_inputs(loaded, span)
    result = run_pipeline(loaded, span=span, until=until, beam_args=tuple(beam_arg or ()), wait=wait)
    print_run(result)
    if result.refusal is not None:
        raise RefusedError(result.refusal)


@app.command()
def ready(config: ConfigOption = DEFAULT_CONFIG, span: SpanOption = 0) -> None:
    """Whether a span's data is there. Exit code 0: yes. 4: not yet; it says what is missing."""
    from components.ingestion.spans import missing

    lines = list(missing(load_config(config).data, span))
    if lines:
        typer.echo("\n".join(lines), err=True)
        raise typer.Exit(NOT_YET)
    typer.echo(f"span {span} is there")


@app.command()
def history(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the training runs: span, metrics, blessing, release."""
    from pipeline.lineage import print_history
    from pipeline.metadata import Metadata

    loaded = load_config(config)
    metrics = [threshold.metric for threshold in loaded.evaluation.thresholds]
    print_history(Metadata(loaded.home), loaded.releases, metrics)


@app.command()
def lineage(
    release: Annotated[int, typer.Argument(help="The release's version.")], config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """Show what a release was made of: model, those it went on from, spans, input files."""
    from pipeline.lineage import print_lineage
    from pipeline.metadata import Metadata

    loaded = load_config(config)
    print_lineage(Metadata(loaded.home), release, loaded.releases)


@app.command()
def clean(
    config: ConfigOption = DEFAULT_CONFIG,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest training runs to keep.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be.")] = False,
    wait: WaitOption = 0,
) -> None:
    """Remove artifacts and logs of old runs, but none of a release that is there or of the last blessed model."""
    from pipeline.clean import clean as clean_artifacts

    loaded = load_config(config)
    cleaned = clean_artifacts(loaded.home, loaded.releases, keep, dry_run=dry_run, wait=wait)
    for run_, why in cleaned.kept:
        typer.echo(f"kept: {run_} ({why})")
    verb = "would remove" if dry_run else "removed"
    typer.echo(f"{verb} {cleaned.artifacts} artifacts and what runs left beside them, {cleaned.bytes / 1e6:,.1f} MB")


@app.command()
def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of serving.port; 0 is any free.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Instead of serving.processes.")] = None,
) -> None:
    """Serve the releases over gRPC until interrupted; new ones are picked up (see the command release)."""
    from serving.processes import serve_in_processes
    from serving.server import ServerError

    loaded = load_config(config)
    given = {name: value for name, value in (("port", port), ("processes", processes)) if value is not None}
    try:
        serve_in_processes(loaded.releases, loaded.name, loaded.serving.model_copy(update=given))
    except ServerError as e:
        raise UserError(str(e)) from e


@app.command()
def check_served(
    config: ConfigOption = DEFAULT_CONFIG,
    address: Annotated[str | None, typer.Option(help="host:port instead of the configuration's.")] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, envvar="RETRIEVAL_CA", help="PEM of who signed the server's certificate."
        ),
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TOKEN", help="Where the server wants one.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the server to load the release.")] = 60,
) -> None:
    """Ask a running server whether it answers with the newest release, or those pinned or with a share instead."""
    import grpc

    from pipeline.served import ServedError
    from pipeline.served import check_served as check
    from serving.client import RetrievalClient

    loaded = load_config(config)
    target = address or loaded.serving.address
    credentials = None if ca is None else grpc.ssl_channel_credentials(ca.read_bytes())
    try:
        with RetrievalClient(target, credentials=credentials, token=token) as client:
            answering = check(loaded.releases, loaded.name, loaded.serving.version_policy, client, wait)
    except ServedError as e:
        raise UserError(f"{target}: {e}") from e
    said = ", ".join(f"{version} ({label})" if label else str(version) for label, version in answering.items())
    typer.echo(f"{target} answers with release {said} of {loaded.name}")


@app.command()
def recommend(
    query_id: Annotated[str, typer.Option(help="The query (user) to recommend for.")],
    k: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="How many items.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(help="An item id to leave out; may be given again.")] = None,
    seen: Annotated[bool, typer.Option("--seen/--no-seen", help="Also items the query already had.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="ATTRIBUTE=VALUE", help="Only items that have it; again for another value or attribute."),
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(metavar="ATTRIBUTE=VALUE", help="No item that has it; may be given again.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Only items with this score or a higher one.")] = None,
    label: Annotated[str, typer.Option(help="Of the release to ask; the server's choice if there is none.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    address: Annotated[str | None, typer.Option(help="host:port instead of the configuration's.")] = None,
    ca: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="PEM of who signed the server's certificate.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TOKEN", help="Where the server wants one.")] = None,
) -> None:
    """Ask a running server for recommendations."""
    import grpc

    from pipeline.report import print_recommendations
    from serving.client import RetrievalClient, RetrievalError

    loaded = load_config(config)
    target = address or loaded.serving.address
    shown = [loaded.data.items.category, *loaded.data.items.show]
    try:
        credentials = None if ca is None else grpc.ssl_channel_credentials(ca.read_bytes())
        with RetrievalClient(target, credentials=credentials, token=token) as client:
            answer = client.recommend(
                query_id=query_id,
                k=k,
                exclude_ids=exclude or [],
                exclude_seen=not seen,
                allow=_by_attribute("--allow", allow),
                deny=_by_attribute("--deny", deny),
                min_score=min_score,
                label=label,
                item_features=shown,
            )
    except UnicodeEncodeError as e:
        raise UserError(f"{e.object!r} is not UTF-8") from e
    except RetrievalError as e:
        # A server that has no release yet is UNAVAILABLE too.
        hint = f"\nIs a server running? Start one with: python -m pipeline serve --config {config}"
        raise UserError(f"{e}{hint if 'failed to connect' in e.message.lower() else ''}") from e
    print_recommendations(query_id, answer, shown)


@app.command()
def experiment(
    grid: Annotated[Path, typer.Option("--grid", "-g", help="The YAML file that names data sets, rows and seeds.")],
    split: Annotated[str, typer.Option(help="What is ranked: test, or eval for choosing settings.")] = "test",
    only_dataset: Annotated[str | None, typer.Option(help="Leave out the other data sets.")] = None,
    only_row: Annotated[
        list[str] | None,
        typer.Option(help="Run no other row; the report shows what is finished. May be given several times."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Instead of the grid's.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time, sharing the processors.")] = 1,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder of the report; default: runs/experiments/report/<grid>-<split>, and for a part of the grid "
            "<grid>-<split>-<only dataset>-<seeds>seeds.",
        ),
    ] = None,
) -> None:
    """Run a grid of data sets x rows x seeds and write one table and plots. Finished cells are not run again."""
    from pipeline.experiments.config import load_grid
    from pipeline.experiments.plan import ROOT, make_plan
    from pipeline.experiments.report import write_report
    from pipeline.experiments.results import collect
    from pipeline.experiments.runner import run_plan
    from pipeline.terminal import plain_console

    loaded = load_grid(grid)
    known = {
        "--split": ([split], ["eval", "test"]),
        "--only-dataset": ([only_dataset] if only_dataset else [], list(loaded.datasets)),
        "--only-row": (only_row or [], [row.name for row in loaded.rows]),
    }
    for option, (values, there) in known.items():
        for value in values:
            if value not in there:
                raise UserError(f"{option}: no {value!r}; there is: {', '.join(there)}")
    console = plain_console()
    plan = make_plan(loaded, grid, evaluation=split, seeds=seeds, datasets=[only_dataset] if only_dataset else None)
    failed = [] if report_only else run_plan(plan, console, only_row, jobs)
    # A part of the grid must not take the place of the whole one's report.
    part = [*([only_dataset] if only_dataset else []), *([f"{seeds}seeds"] if seeds else [])]
    folder = output or ROOT / "report" / "-".join([grid.stem, split, *part])
    for file in write_report(collect(plan), failed, folder):
        console.print(str(file), soft_wrap=True)
    if failed:
        raise UserError("\n".join(failed))


@app.command()
def demo() -> None:
    """Go the whole way with configs/movielens.yaml: download MovieLens-100K, run, serve, ask. As `make demo` does."""
    from pipeline.demo import run_demo

    run_demo(DEFAULT_CONFIG)


def _by_attribute(option: str, given: list[str] | None) -> dict[str, list[str]]:
    """ATTRIBUTE=VALUE, several times, as the values by attribute."""
    values: dict[str, list[str]] = {}
    for text in given or []:
        attribute, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{option} {text}: expected ATTRIBUTE=VALUE")
        values.setdefault(attribute, []).append(value)
    return values


def _check_inputs(config: PipelineConfig, span: int) -> None:
    from components.ingestion.checks import check_inputs

    # Airflow gives each period's number, whatever the files are called.
    if span and not config.data.has_spans and config.schedule is None:
        raise UserError(f"--span {span}: no file pattern of the configuration has {{SPAN}}, so it would change nothing")
    for left_out, reason in check_inputs(config.ingestion(span)).items():
        typer.echo(f"span {left_out} is not trained on: {reason}")


def main() -> None:
    """Runs the command line; what the user can mend is shown as plain text, with exit code 1, or 3 for a gate's."""
    from components.ingestion.errors import IngestionError
    from pipeline.experiments.exchange import ExchangeError
    from pipeline.metadata import MetadataError
    from pipeline.run import RefusedError, RunError

    # The interpreter would end with looking through all that TensorFlow and TFX made, for three seconds.
    atexit.register(gc.freeze)
    # Google's client libraries, which Beam loads, say with each start that they would like a newer Python.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    try:
        app()
    except OSError as e:
        if e.filename is None:  # of no file that the user named, so not the user's to mend
            raise
        typer.echo(f"{e.filename}: {e.strerror}", err=True)
        sys.exit(FAILED)
    except (
        ConfigError,
        DatasetError,
        ExchangeError,
        IngestionError,
        MetadataError,
        ReleaseError,
        RunError,
        UserError,
    ) as e:
        typer.echo(str(e), err=True)
        sys.exit(REFUSED if isinstance(e, RefusedError) else FAILED)
