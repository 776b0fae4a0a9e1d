"""Ten questions of a researcher, answered in the reader by clicks from its front page: the list of docs/reader.md."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_reader import page, served

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(1800)]
__all__ = ["page"]  # a fixture

Steps = list[tuple[str, ...]]
# question -> steps from the front page, and what the answer's page says
QUESTIONS: dict[str, tuple[Steps, list[str]]] = {
    "which rationale styles win": (
        [("click", "text=Every round: styles, lengths, rewards")], ["share of candidates, of winners", "planner"],
    ),
    "has EM gained over its control": (
        [("click", "tr:has-text('gain over') td.n a")], ["gain over"],
    ),
    "why did this problem fall": (
        [("click", "text=problems that fell, and what for"), ("click", "#rows tbody a")], ["It fell:", "what fell"],
    ),
    "which seeds lead to problems that fell": (
        [("click", "text=seeds that led to what fell")], ["records"],
    ),
    "show me wrong answers that the vote agreed on": (
        [("click", "tr:has(td:text-matches('^majority@')) td.n a"), ("click", "a.tick.wrong")],
        ["wrong", "rule that fired"],
    ),
    "which rule of the grader refuses most answers": (
        [("click", "#tables ~ div a:text-is('benchmark_verdicts')"), ("choose", "[name='is.passed']", "false"),
         ("click", "button:text-is('Show')")], ["records", "rule"],
    ),
    "what did this model learn from": (
        [("click", "header nav a:text-is('Models')"), ("click", "main a[href*='sft_model']")], ["What it learned from"],
    ),
    "which problems are too hard for the student": (
        [("click", "#tables ~ div a:text-is('difficulty')"), ("choose", "[name='is.band']", "unsolved"),
         ("choose", "[name=sort]", "tokens"), ("check", "[name=desc]"), ("click", "button:text-is('Show')")],
        ["records", "unsolved"],
    ),
    "why was this trace not taught": (
        [("click", "#tables ~ div a:text-is('teacher_traces')"), ("choose", "[name='is.valid']", "false"),
         ("click", "button:text-is('Show')"), ("click", "#rows tbody a")], ["wrong"],
    ),
    "what does a kept problem cost, and where do rows get lost": (
        [("click", "#funnel ~ section td.n a")], ["rows"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    source = os.environ.get("PROMPTCOT_SCORED_HOME") or request.getfixturevalue("finished_home")
    home = Path(shutil.copytree(source, tmp_path_factory.mktemp("questions") / "home"))
    with served(home) as at:
        yield at


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_by_clicks(question: str, page: Any, address: str) -> None:
    steps, answer = QUESTIONS[question]
    page.goto(address)
    for what, where, *given in steps:
        control = page.locator(where).first
        {"click": control.click, "check": control.check, "choose": control.select_option}[what](*given)
        page.wait_for_load_state("networkidle")
    shown = page.inner_text("main")
    assert all(one.lower() in shown.lower() for one in answer), shown[:2000]
    assert "there is no" not in shown and "0 records" not in shown.split("\n")
