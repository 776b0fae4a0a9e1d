"""A real headless Chromium in front of a real `dagster dev`; everything is ended by its process id."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.small_home import SmallHome

if TYPE_CHECKING:
    from tests.browser.dagster_ui import DagsterUi

CHROMIUM = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (`make setup` does)")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("no Chromium on this machine; `make browser` installs Debian's")
    with playwright.sync_playwright() as driver:
        # no sandbox: root has none, and it shows only our own pages
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def home(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallHome]:
    """Made when a browser is there to look at it."""
    small = SmallHome(tmp_path_factory.mktemp("browser") / "home")
    small.prepare()
    try:
        small.start()
        yield small
    finally:
        if small.dev:
            small.dev.kill()


@pytest.fixture
def ui(chromium: Any, home: SmallHome, tmp_path: Path) -> Iterator[DagsterUi]:
    """A tab of its own for each test."""
    assert home.dev
    with tab(chromium, home.dev.url, tmp_path) as ui:
        yield ui


@contextmanager
def tab(chromium: Any, url: str, folder: Path) -> Iterator[DagsterUi]:
    """A tab on a Dagster UI; what it showed last stays in `folder`."""
    from tests.browser.dagster_ui import DagsterUi

    asked = os.environ.get("PROMPTCOT_SCREENSHOTS")
    page = chromium.new_page(device_scale_factor=2 if asked else 1)
    try:
        yield DagsterUi(page, url, Path(asked) if asked else None)
    finally:
        page.screenshot(path=folder / "last_seen.png")
        page.close()
