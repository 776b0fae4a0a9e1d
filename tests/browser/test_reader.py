"""The reader in a real browser: from a score to a seed by clicks, hostile text, keys, without any network."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from promptcot_assets.reports.query import query
from promptcot_assets.reports.reader import marks, server
from promptcot_assets.reports.reader.export import export
from tests.reports.reader.hostile import MEGABYTE, RIGHT_TO_LEFT, SCRIPT, make_hostile
from tests.small_home import Home

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

# PROMPTCOT_SCREENSHOTS: a folder for pictures of the pages; PROMPTCOT_SCORED_HOME: of a finished `make demo`
SHOTS = os.environ.get("PROMPTCOT_SCREENSHOTS")


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab that can load files and this machine's server and nothing else; what it complains of fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    context.route(
        "**/*", lambda route: route.continue_() if _is_ours(route.request.url) else _refuse(route, complaints)
    )
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    yield page
    context.close()
    assert complaints == []


def _is_ours(url: str) -> bool:
    return url.startswith(("file://", "http://127.0.0.1"))


def _refuse(route: Any, complaints: list[str]) -> None:
    complaints.append(f"asked the network for {route.request.url}")
    route.abort()


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = os.environ.get("PROMPTCOT_SCORED_HOME") or request.getfixturevalue("finished_home")
    return Path(shutil.copytree(source, tmp_path_factory.mktemp("reader") / "home"))


@pytest.fixture(scope="module")
def folder(finished: Path) -> Path:
    export(finished, finished.parent / "out")
    return finished.parent / "out"


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a reader's server that runs in a thread of this process."""
    import uvicorn

    reader = server.Reader(home)
    running = uvicorn.Server(uvicorn.Config(reader.application(), port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    for _ in range(600):
        if running.started:
            break
        thread.join(0.05)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/{reader.token}/"
    finally:
        running.should_exit = True
        thread.join(20)


def shoot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"reader_{name}.png")


@pytest.mark.slow
def test_from_a_score_to_the_seed_by_clicks(page: Any, folder: Path) -> None:
    """Front page, score, wrong answer, its model, a training problem, its votes, a seed's candidates, the seed."""
    page.goto((folder / "index.html").as_uri())
    shoot(page, "front")
    clicks = 0

    def click(selector: str) -> None:
        nonlocal clicks
        page.locator(selector).first.click()
        clicks += 1

    click("tr:has(td:text-is('sft')) td.n a")
    assert "Answers, the wrong ones first" in page.inner_text("main")
    shoot(page, "score")
    click("a.tick.wrong")
    page.locator("article.attempt:target, p:target").wait_for()
    shoot(page, "answer")
    click("article.attempt:has(:text-is('sft')) header a")
    assert "What it learned from" in page.inner_text("main")
    click("ol.rows a[href*='problems/']")
    assert "/problems/" in page.url
    click("nav.toc a[href='#math_answers'], nav.toc a[href='#code_tests']")
    shoot(page, "problem")
    click("#from a[href*='#em_rationales']")
    assert page.locator(".candidate.winner").count() >= 1 and page.locator(".candidate").count() >= 3
    shoot(page, "candidates")
    click("nav.toc a")
    assert "/seed_problems/" in page.url and clicks < 10


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
def test_no_page_is_wider_than_the_window(page: Any, folder: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    some = ["index.html", "em/index.html", "models/index.html", "problems/index.html", "em_rationales/index.html"]
    tables = ("problems", "seed_problems", "benchmark_items", "benchmark_scores", "dropped_problems")
    some += [next((folder / table).glob("[0-9a-f]*.html")).relative_to(folder).as_posix() for table in tables]
    for name in some:
        page.goto((folder / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        ink, paper = page.evaluate(
            "(style => [style.color, style.backgroundColor])(getComputedStyle(document.documentElement))"
        )
        assert ink != paper


@pytest.mark.slow
def test_a_static_list_is_searched_filtered_and_sorted(page: Any, folder: Path, finished: Path) -> None:
    page.goto((folder / "seed_problems" / "index.html").as_uri())
    page.wait_for_selector("#find:not([hidden])")
    total = page.locator("#rows tbody tr").count()
    page.keyboard.press("/")
    page.keyboard.type("rectangle")
    rows = page.locator("#rows tbody tr")
    page.wait_for_function("count => document.querySelectorAll('#rows tbody tr').length < count", arg=total)
    assert rows.count() > 0
    page.keyboard.press("Escape")
    page.locator("#rows tbody a").first.click()
    assert "rectangle" in page.inner_text("main")
    page.keyboard.press("j")
    page.wait_for_url("**/seed_problems/*")


def test_hostile_text_is_text(page: Any, own_arc: Home, tmp_path: Path) -> None:
    make_hostile(own_arc)
    export(own_arc.path, tmp_path / "out")
    with served(own_arc.path) as address:
        for at in ((tmp_path / "out" / "index.html").as_uri(), address):
            base = at.removesuffix("index.html")
            for name in ("index.html", "problems/index.html", "problems/problem_9.html", "math_answers/index.html"):
                page.goto(base + name)
                assert page.evaluate("document.documentElement.scrollWidth") <= 1280, name
                assert page.title() != "broken" and page.locator("main img, main iframe, main script").count() == 0
            page.goto(base + "problems/problem_9.html")
            text = page.text_content("main")
            assert SCRIPT in text and RIGHT_TO_LEFT in text and "\\frac{" in text
            page.locator("details.more summary").first.click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280
            # what follows right-to-left marks reads from left to right again
            isolation = page.evaluate("getComputedStyle(document.querySelector('.text')).unicodeBidi")
            assert isolation in ("isolate", "plaintext")
            if base.startswith("file"):
                assert MEGABYTE[:3_000] in text


def test_a_record_is_judged_with_the_keyboard(page: Any, own_arc: Home) -> None:
    with served(own_arc.path) as address:
        page.goto(f"{address}seed_problems/index.html")
        page.locator("#rows tbody a").first.click()
        page.wait_for_url("**/seed_1.html?*")
        page.keyboard.press("j")
        page.wait_for_url("**/seed_2.html?*")
        page.keyboard.press("m")
        page.keyboard.type("too easy")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#mark .badge")
        assert "too easy" in page.inner_text("#mark")
    (made,) = marks.marks(own_arc.path)
    assert (made["row_id"], made["verdict"]) == ("seed_2", "bad")
    assert query(own_arc.path, "select count(*) from marks").rows == [(1,)]


def test_every_page_has_one_heading_landmarks_and_names(page: Any, own_arc: Home, tmp_path: Path) -> None:
    """What a screen reader goes by: a main landmark, one first heading, a label for every control and picture."""
    with served(own_arc.path) as address:
        for name in (
            "index.html",
            "problems/index.html",
            "problems/problem_2.html",
            "em/index.html",
            "marks/index.html",
        ):
            page.goto(address + name)
            assert page.locator("main").count() == page.locator("h1").count() == 1
            assert page.evaluate("document.documentElement.lang") == "en"
            unnamed = page.evaluate(
                "[...document.querySelectorAll('input:not([type=hidden]), select, svg, meter')].filter(one =>"
                " !(one.labels?.length || one.getAttribute('aria-label'))).map(one => one.outerHTML)"
            )
            assert unnamed == []
