"""`promptcot`: run the arc, query the catalogue, follow lineage. Every reporting command has `--json`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from promptcot_assets.settings import SettingsError, home, load_settings

if TYPE_CHECKING:
    from promptcot_assets.reports.export import Format

PRINTED_FILES = 10


@contextlib.contextmanager
def _plain_errors(*more: type[Exception]) -> Iterator[None]:
    """Errors that are ours to explain end the command with one message, not a traceback."""
    from promptcot_assets.lake import LakeError

    ours: tuple[type[Exception], ...] = (LakeError, SettingsError, *more)
    try:
        yield
    except ours as error:
        raise click.ClickException(str(error)) from error


def _needs_lake() -> None:
    """Raises: LakeError when the home has no lake; to be called before `Lake`, which makes one."""
    from promptcot_assets.reports.history import History

    History(home())


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(command)


def _print_json(document: Any) -> None:
    from promptcot_assets.reports.text import to_json

    click.echo(to_json(document))


@click.group()
def main() -> None:
    """PromptCoT Assets. State lives in PROMPTCOT_HOME (default .promptcot); PROMPTCOT_PROFILE names the settings."""


@main.command()
def init() -> None:
    """Prepare the home: folders, Dagster's instance, pools, the first batch."""
    with _plain_errors():
        from promptcot_assets.automation.home import (
            DAGSTER_YAML_VARIABLE,
            HomeBusy,
            only_arc_of,
            open_home,
            release_dead_runs,
        )
        from promptcot_assets.lake import Lake
        from promptcot_assets.reports.instance_file import complete

        config = home() / "dagster" / "dagster.yaml"
        its_own = DAGSTER_YAML_VARIABLE not in os.environ
        if its_own and config.exists() and (added := complete(config)):
            click.echo(f"{config} is older than {', '.join(added)}: added, the rest is as it was")
        with open_home(home(), load_settings()) as instance:
            with contextlib.suppress(HomeBusy), only_arc_of(home()):
                release_dead_runs(instance)
            Lake(home()).publish()
            click.echo(f"home ready: {home()}")


@main.command()
@click.argument("profile", required=False)
@_json_option
def pin(profile: str | None, as_json: bool) -> None:
    """Pin what PROFILE (default: PROMPTCOT_PROFILE) names at the hub without a commit, to what `main` has now.

    The commits are added to revisions.lock beside the profile; what is pinned already stays as it is.
    """
    from promptcot_assets.settings import pins
    from promptcot_assets.settings.loading import lock_folder, profile_name

    name = profile or profile_name()
    with _plain_errors(pins.PinError):
        pinned = pins.pin(pins.unpinned(load_settings(name).model_dump()), lock_folder(name))
    if as_json:
        _print_json(pinned)
    else:
        click.echo("".join(f"{name}: {commit}\n" for name, commit in pinned.items()) or "nothing to pin", nl=not pinned)


@main.command()
@click.option(
    "--until", "last", metavar="LEG", help="Stop after this leg, e.g. 'EM round_02' (default: the whole arc)."
)
def run(last: str | None) -> None:
    """Run the whole arc of the profile; the same command goes on where a killed one stopped."""
    with _plain_errors():
        from promptcot_assets.automation.arc import ArcError, run_arc
        from promptcot_assets.lake import Lake
        from promptcot_assets.reports.summary import summary

        with _plain_errors(ArcError):
            run_arc(load_settings(), home(), last)
        if last is None:
            click.echo(summary(Lake(home()), home()))


@main.command()
@_json_option
def ablations(as_json: bool) -> None:
    """Run EM and the profile's ablations of it over several seeds; one table of paired differences.

    Every seed has a folder in PROMPTCOT_HOME and every arm a home in it; the same command goes on after a kill.
    """
    with _plain_errors():
        from promptcot_assets.automation.ablations import EM, measure, run_ablations
        from promptcot_assets.automation.arc import ArcError
        from promptcot_assets.stages.ablations import table

        with _plain_errors(ArcError):
            run_ablations(load_settings(), home())
        outcomes = measure(load_settings(), home())
        if as_json:
            _print_json(outcomes)
        else:
            click.echo(table(outcomes, EM))


@main.command()
@click.argument("query")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Write the answer to a Parquet file.")
@_json_option
def sql(query: str, as_csv: bool, parquet: Path | None, as_json: bool) -> None:
    """Ask the catalogue, read-only. Every table is a view; see also `lineage`, `models` and `runs`.

    promptcot sql "select domain, count(*) from problems group by all"
    """
    from promptcot_assets.reports.query import query as ask
    from promptcot_assets.reports.query import write_parquet

    if as_csv and (as_json or parquet):
        raise click.UsageError(f"give --csv or {'--json' if as_json else '--parquet'}, not both")
    with _plain_errors():
        if parquet:
            rows = write_parquet(home(), query, parquet)
            if as_json:
                _print_json({"out": parquet, "rows": rows})
            else:
                click.echo(f"{parquet}: {rows:,} rows")
            return
        answer = ask(home(), query)
        if as_json:
            _print_json(answer.records())
        else:
            click.echo(answer.csv() if as_csv else answer.text())


@main.command()
@click.argument("asset", required=False)
@click.argument("partition", required=False)
@click.option("--stale", is_flag=True, help="Which newest commits were made of data that is newer now.")
@_json_option
def lineage(asset: str | None, partition: str | None, stale: bool, as_json: bool) -> None:
    """What a table or model was made from, commit by commit, with data versions, settings, seeds and costs.

    ASSET is a name or an exact ref as printed here, `asset[partition]@version`. With --stale it may be left out.
    """
    from promptcot_assets.reports import lineage as reports
    from promptcot_assets.reports.history import History

    with _plain_errors():
        if asset is None and not stale:
            raise click.UsageError("name an ASSET, or ask for all that is out of date with --stale")
        history = History(home())
        named = reports.commits_named(history, asset, partition) if asset else []
        if stale:
            wanted = {entry.ref for entry in named}
            found = {ref: why for ref, why in reports.stale(history).items() if not asset or ref in wanted}
            if as_json:
                _print_json([{"ref": ref, "because": why} for ref, why in found.items()])
            else:
                lines = [f"{ref}: {'; '.join(why)}" for ref, why in found.items()]
                click.echo("\n".join(lines) or "nothing is stale")
        elif as_json:
            every = reports.with_ancestors(history, named)
            commits = [reports.as_json(entry) for entry in every]
            _print_json({"of": [entry.ref for entry in named], "cost": reports.cost(every), "commits": commits})
        else:
            click.echo("\n".join(reports.as_text(history, entry) for entry in named))
            click.echo(f"in all {reports.cost(reports.with_ancestors(history, named))}")


@main.command()
@click.argument("row_id")
@click.option("--down", is_flag=True, help="What comes from the row, instead of what it comes from.")
@_json_option
def trace(row_id: str, down: bool, as_json: bool) -> None:
    """One row of any table (or a model), up to the seeds and concepts it comes from."""
    from promptcot_assets.reports import trace as reports

    with _plain_errors():
        history, graph = reports.trace(home(), row_id, down)
        if as_json:
            _print_json({"row": row_id, "down": down} | reports.as_json(history, graph))
        else:
            click.echo(reports.as_text(history, graph))


@main.command()
@click.argument("row_id")
@click.option("--apply", is_flag=True, help="The source is mended: run what heals it, one run after the other.")
@_json_option
def recall(row_id: str, apply: bool, as_json: bool) -> None:
    """A bad row is found: all rows, models and scores that come of it, and the runs that heal it."""
    from promptcot_assets.reports import recall as reports

    with _plain_errors():
        if apply:
            from promptcot_assets.automation.healing import heal

            done = heal(home(), load_settings(), row_id, lambda command: click.echo(command, err=True))
            if as_json:
                _print_json({"row": row_id, "runs": [run.command for run in done]})
            else:
                click.echo(
                    f"{row_id} is healed by {len(done)} runs" if done else f"nothing is left to heal of {row_id}"
                )
            return
        found = reports.recall(home(), row_id)
        if as_json:
            _print_json(found)
        else:
            click.echo(reports.as_text(home(), found))


@main.command()
@click.argument("table")
@click.argument("partition", required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make (figure: PNG file).")
@click.option("--format", "format_", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@click.option("--messages", is_flag=True, help="Training tables as chats: lists of {role, content}.")
@click.option("--licence", help="Of the whole, for the card, e.g. cc-by-4.0.")
@click.option("--push", "repository", metavar="ORG/NAME", help="Upload it to the Hugging Face hub, private when new.")
@click.option("--with", "others", type=click.Path(path_type=Path), multiple=True, help="Homes of more seeds (em).")
@_json_option
def export(
    table: str,
    partition: str | None,
    out: Path,
    format_: Format,
    messages: bool,
    licence: str | None,
    repository: str | None,
    others: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write a table as a folder that `datasets.load_dataset` reads, or a model, with a card; or a figure as PNG.

    sft_examples and preference_pairs get the columns TRL's trainers want.

    \b
    promptcot export problems first --out problems/
    promptcot export sft_model tiny --out student/
    promptcot export figure em --out em.png      (figures: em, funnel, distribution)
    """
    from promptcot_assets.lake.schemas import MODEL_ROLES
    from promptcot_assets.reports import export as reports

    with _plain_errors():
        if table == "figure" and repository:
            raise click.UsageError("--push takes a table or a model, not a figure")
        if table == "figure":
            refs = reports.export_figure(home(), partition or "em", out, others)
        elif table in MODEL_ROLES:
            refs = reports.export_model(home(), table, partition, out, licence)
        else:
            refs = reports.export_table(home(), table, partition, out, format_, messages, licence)
        pushed = None
        if repository:
            pushed = reports.push(out, repository, "model" if table in MODEL_ROLES else "dataset")
        if as_json:
            _print_json({"out": out, "refs": refs, "pushed": pushed})
        else:
            click.echo(f"{out}: {', '.join(f'{ref} ({ref.rows:,} rows)' for ref in refs)}")
            if pushed:
                click.echo(f"pushed: {pushed}")


@main.command()
@click.option("--apply", is_flag=True, help="Delete; without it nothing is touched.")
@click.option("--keep", type=click.IntRange(min=1), default=5, show_default=True, help="Newest commits of a partition.")
@_json_option
def gc(apply: bool, keep: int, as_json: bool) -> None:
    """Superseded data that no model or score rests on, and work that nobody will finish. Spares the last 24 hours."""
    from promptcot_assets.lake import Lake

    with _plain_errors():
        _needs_lake()
        garbage = Lake(home()).gc(keep_last=keep, dry_run=not apply)
        if as_json:
            _print_json({"applied": apply, "bytes": sum(one.bytes for one in garbage), "garbage": garbage})
            return
        for one in garbage:
            click.echo(f"{one.asset}: {len(one.files):,} files, {one.bytes / (1 << 20):,.1f} MiB")
            for file in one.files[:PRINTED_FILES]:
                click.echo(f"  {file.relative_to(home())}")
            if len(one.files) > PRINTED_FILES:
                click.echo(f"  … {len(one.files) - PRINTED_FILES:,} more")
        total = f"{sum(one.bytes for one in garbage) / (1 << 20):,.1f} MiB"
        if not garbage:
            click.echo("nothing to delete")
        else:
            click.echo(f"{total} deleted" if apply else f"{total} can go; --apply deletes them")


@main.command()
@click.option("--profile", help="Whose needs to check (default: PROMPTCOT_PROFILE, else demo).")
@click.option("--data", is_flag=True, help="Read every version in use and compare it with what was committed.")
@_json_option
@click.pass_context
def doctor(context: click.Context, profile: str | None, data: bool, as_json: bool) -> None:
    """What this machine has and lacks, sandbox and graders really tried; what the profile's whole arc will take.

    Tokens, device hours and disk are estimated before anything runs. Exit code 1 when something fails.
    """
    from promptcot_assets.reports import estimate as reports
    from promptcot_assets.reports.doctor import examine

    findings = []
    for finding in examine(home(), profile, data):
        findings.append(finding)
        if not as_json:
            mend = f"\n{'':16}mend: {finding.mend}" if finding.mend else ""
            click.echo(f"{finding.level:<5} {finding.name:<10}{finding.found}{mend}")
    healthy = all(finding.level != "fail" for finding in findings)
    found = None
    with contextlib.suppress(SettingsError):  # which is a finding
        found = reports.estimate(load_settings(profile), home())
    if as_json:
        _print_json({"healthy": healthy, "findings": findings, "estimate": found and reports.as_json(found)})
    elif found:
        click.echo(f"\n{reports.as_text(found)}")
    context.exit(0 if healthy else 1)


@main.command()
@click.argument("student")
@_json_option
def regrade(student: str, as_json: bool) -> None:
    """Judge a student's stored rollouts and benchmark generations by the grader as it is now.

    Shows which rewards, preference pairs and scores change. Generates nothing and writes nothing.
    """
    from promptcot_assets.reports import regrade as reports
    from sandbox import SandboxUnavailable

    with _plain_errors(SandboxUnavailable):
        _needs_lake()
        found = reports.regrade(home(), student, load_settings())
        if as_json:
            _print_json(reports.as_json(found))
        else:
            click.echo(reports.as_text(found))


@main.command("benchmark-report")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write report.md and scaling.png into.")
@_json_option
def benchmark_report(out: Path | None, as_json: bool) -> None:
    """Every student's scores with intervals, beside the paper's tables; with the exact versions behind them."""
    from promptcot_assets.lake import LakeError
    from promptcot_assets.reports import benchmark_report as reports

    with _plain_errors():
        _needs_lake()
        report = reports.benchmark_report(home())
        if out is not None:
            try:
                out.mkdir(parents=True, exist_ok=True)
                (out / "report.md").write_text(reports.as_markdown(report) + "\n")
                if report.scaling:
                    reports.scaling_figure(report.scaling, out / "scaling.png")
            except OSError as error:
                raise LakeError(f"cannot write {out}: {error}") from error
        if as_json:
            _print_json(reports.as_json(report))
        else:
            click.echo(reports.as_markdown(report))


@main.command()
@click.argument("points", type=float)
@_json_option
def plan(points: float, as_json: bool) -> None:
    """How many benchmark questions it takes to see a difference of POINTS between two stages, e.g. 2."""
    from promptcot_assets.reports import benchmark_report as reports
    from promptcot_assets.stages.statistics import StatisticsError

    with _plain_errors(StatisticsError):
        _needs_lake()
        plans = reports.plan(home(), points / 100)
        if as_json:
            _print_json(plans)
        else:
            click.echo(reports.plan_as_text(plans, points / 100))


if __name__ == "__main__":
    main()
