"""`promptcot`: run the arc, query the catalogue, follow lineage. Every reporting command has `--json`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from promptcot_assets.settings import home, load_settings


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors that are ours to explain end the command with one message, not a traceback."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("promptcot_assets.", "sandbox.")):
            raise
        raise click.ClickException(str(error)) from error


@click.group()
def main() -> None:
    """PromptCoT Assets. State lives in PROMPTCOT_HOME (default .promptcot); PROMPTCOT_PROFILE names the settings."""


@main.command()
def init() -> None:
    """Prepare the home: folders, Dagster's instance, pools, the first batch."""
    with _plain_errors():
        from promptcot_assets.automation.home import open_home

        with open_home(home(), load_settings()):
            click.echo(f"home ready: {home()}")


@main.command()
def run() -> None:
    """Run the whole arc of the profile; the same command goes on where a killed one stopped."""
    with _plain_errors():
        from promptcot_assets.automation.arc import run_arc
        from promptcot_assets.lake import Lake
        from promptcot_assets.reports.summary import summary

        run_arc(load_settings(), home())
        click.echo(summary(Lake(home()), home()))


if __name__ == "__main__":
    main()
