"""Text of models and files as HTML: it is all there, and nothing of it is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.reports.reader import prose

OURS = {"details", "summary", "pre", "code", "span", "mark", "p", *prose.MATHML}


class Seen(HTMLParser):
    """Tags, attributes and text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</div></main><iframe src=//evil.example>",
    "<style>body{display:none}</style>",
    "<!-- a comment --><b>bold</b>",
    "$\\href{javascript:alert(1)}{click}$ and $\\style{display:none}{x}$ and $\\class{skip}{x}$",
    "$\\text{<script>alert(1)</script>}$",
    '$\\color{red" onmouseover="alert(1)}{x}$',
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\n```',
    "<think><script>alert(1)</script></think><script>alert(2)</script>",
    "javascript:alert(1)",
    "\u202egnp.exe\u202c and \u200f",
    "\x00\x1b[31mred\x7f\x85",
    "&lt;b&gt; &amp;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str) -> None:
    seen = Seen(prose.rich(text))
    assert set(seen.tags) <= OURS
    assert {name for name, _ in seen.attributes} <= {"class", *prose.ATTRIBUTES}
    assert all("script" not in (value or "") for _, value in seen.attributes)


@pytest.mark.parametrize(
    "text", ["<b>bold</b> & more", "&lt;b&gt;", "a\n\n  b\tc", "$5 and $6 for two", "x < y > z", "\u202eright to left"]
)
def test_text_without_formulas_is_kept_to_the_character(text: str) -> None:
    assert Seen(prose.rich(text)).text == text


PIECES = [
    *"ab $\\{}^_&<>()[]`\n\"'=", "\\frac", "\\text", "\\begin{matrix}", "\\end{matrix}", "\\\\", "<think>", "</think>",
    "```", "\\left(", "\\right)", "\\href", "\\sqrt", "\\color", "<script>", "\\[", "\\]",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_no_text_breaks_it_or_becomes_markup(text: str) -> None:
    seen = Seen(prose.rich(text, mark="a", fold=40))
    assert set(seen.tags) <= OURS
    assert {name for name, _ in seen.attributes} <= {"class", *prose.ATTRIBUTES}


@pytest.mark.parametrize(("text", "tag"), [
    ("so $x^2$ is", "msup"),
    ("so \\(\\frac{a}{b}\\) is", "mfrac"),
    ("\\[\\sum_{i=1}^n i\\]", "munderover"),
    ("$$\\sqrt{2}$$", "msqrt"),
])  # fmt: skip
def test_formulas_are_mathml(text: str, tag: str) -> None:
    assert tag in Seen(prose.rich(text)).tags


@pytest.mark.parametrize(
    "latex", ["\\frac{", "x_", "\\unknown{x}", "{" * 900, "\\sqrt" * 150, "x" * 2_000, "\\newcommand{\\a}{\\a\\a}\\a"]
)
def test_broken_latex_is_shown_as_it_is(latex: str) -> None:
    text = f"before ${latex}$ after"
    seen = Seen(prose.rich(text, fold=10_000))
    assert "math" not in seen.tags and seen.text == text


def test_thoughts_are_folded_and_the_answer_is_not() -> None:
    html = prose.rich("<think>" + "so " * 20_000 + "</think>It is \\boxed{7}.")
    assert html.startswith('<details class="think"><summary>thoughts, 60,000 characters</summary>')
    assert html.rpartition("</details>")[2] == "It is \\boxed{7}."


def test_a_long_text_is_folded_and_whole() -> None:
    text = "x" * 1_000_000
    seen = Seen(prose.rich(text))
    assert re.sub(r"[\d,]+ more characters", "", seen.text) == text
    assert seen.tags[0] == "details"


def test_what_is_cut_says_how_much() -> None:
    assert "900 more characters are not in this export" in prose.rich("y" * 1_000, cut=100)


def test_a_quote_is_marked_in_every_place() -> None:
    assert prose.rich("the sum of the sum", mark="the sum") == "<mark>the sum</mark> of <mark>the sum</mark>"
    assert prose.rich("a <b> c", mark="<b>") == "a <mark>&lt;b&gt;</mark> c"


def test_programs_are_coloured_and_unknown_languages_are_plain() -> None:
    assert "span" in Seen(prose.rich("```python\nprint(1)\n```")).tags
    assert Seen(prose.rich("```klingon\nqapla <x>\n```")).text.strip() == "qapla <x>"
