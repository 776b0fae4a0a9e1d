"""A reader as a folder: every link leads somewhere in it, nothing asks for a network, nothing of a model is markup."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from click.testing import CliRunner

from promptcot_assets.cli import main
from promptcot_assets.lake import LakeError
from promptcot_assets.reports.reader import export as reader
from promptcot_assets.reports.reader.export import export
from promptcot_assets.reports.reader.front import Failure
from promptcot_assets.reports.reader.pages import slug, unslug
from tests.reports.reader.hostile import make_hostile
from tests.small_home import Home


class Page(HTMLParser):
    """Links, ids and loaded files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.styled = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loads += [given[name] for name in ("src", "href") if tag != "a" and name in given]
        self.styled |= "style" in given or any(name.startswith("on") for name in given)


@pytest.fixture(scope="module")
def folder(arc: Home, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reader") / "out"
    export(arc.path, out)
    return out


def pages(folder: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in folder.rglob("*.html")}


def test_every_link_leads_to_a_place_in_the_folder(folder: Path) -> None:
    found = pages(folder)
    for path, page in found.items():
        for link in page.links:
            to, anchor = urldefrag(link)
            target = (path.parent / unquote(to)).resolve() if to else path.resolve()
            assert target in {one.resolve() for one in found}, (path, link)
            if anchor and anchor != "em_rationales":  # of a seed without candidates
                assert anchor in found[next(one for one in found if one.resolve() == target)].ids, (path, link)


def test_nothing_is_loaded_but_the_style_and_the_script(folder: Path) -> None:
    for path, page in pages(folder).items():
        assert {Path(one).name for one in page.loads} == {"reader.css", "reader.js"}, path
        assert not page.styled and "default-src 'none'" in path.read_text().replace("&#39;", "'")
        assert page.tags.count("script") == 1


def test_the_walk_from_a_score_to_the_seed(folder: Path) -> None:
    """Front page, score, wrong answer, model, training problem, votes, a seed's candidates: each a link of the last."""
    model = next((folder / "models").glob("self_play_model*")).relative_to(folder)
    walk = [
        ("index.html", "benchmark_scores/score_base.html"),
        ("benchmark_scores/score_base.html", "benchmark_items/item_1.html#benchmark_verdicts-base_1"),
        ("benchmark_scores/score_self_play.html", "benchmark_items/item_1.html#benchmark_verdicts-self_play_1"),
        ("benchmark_items/item_1.html", model),
        (model, "problems/problem_2.html#preference_pairs-pair_1"),
        ("problems/problem_2.html", "#math_answers"),
        ("problems/problem_2.html", "seed_problems/seed_1.html#em_rationales"),
    ]  # fmt: skip
    for start, end in walk:
        links = [link.removeprefix("../") for link in Page(folder / start).links]
        assert str(end) in links, (start, end)
    assert {"em_rationales-candidate_1a", "em_rationales-candidate_1b"} <= Page(
        folder / "seed_problems" / "seed_1.html"
    ).ids


def test_it_says_which_exact_versions_it_shows(folder: Path, arc: Home) -> None:
    versions = json.loads((folder / "reader.json").read_text())["versions"]
    assert str(arc.refs["problems"]) in versions and str(arc.refs["em_rationales"]) in versions


def test_one_table_with_a_condition_and_a_sample(arc: Home, tmp_path: Path) -> None:
    done = export(arc.path, tmp_path / "one", "problems", where="problem_id = 'problem_1'")
    assert done.records == 1 and (tmp_path / "one" / "problems" / "problem_1.html").exists()
    assert export(arc.path, tmp_path / "two", "em_rationales", "round_01", sample=1).records == 1
    assert export(arc.path, tmp_path / "three", "sft_model").records == 1


def test_rows_for_the_script_are_ascii_json(own_arc: Home, tmp_path: Path) -> None:
    make_hostile(own_arc)
    export(own_arc.path, tmp_path / "out", "problems")
    content = (tmp_path / "out" / "problems" / "rows.js").read_text()
    assert content.isascii() and content.startswith("window.reader = ") and content.endswith(";\n")
    assert len(json.loads(content.removeprefix("window.reader = ").removesuffix(";\n"))["rows"]) == 1


def test_a_list_says_which_problem_its_rows_are_about(folder: Path) -> None:
    content = (folder / "difficulty" / "rows.js").read_text()
    listed = json.loads(content.removeprefix("window.reader = ").removesuffix(";\n"))
    assert listed["columns"][0] == "problem" and listed["rows"][0][1][0] == "new 2?"
    assert listed["rows"][0][2].endswith("new 2?")  # what is shown is found
    assert "<bdi>new 2?</bdi>" in (folder / "difficulty" / "index.html").read_text()


def test_hostile_text_adds_no_element(own_arc: Home, tmp_path: Path) -> None:
    make_hostile(own_arc)
    export(own_arc.path, tmp_path / "out")
    for path, page in pages(tmp_path / "out").items():
        assert not {"img", "iframe", "object", "style", "base"} & set(page.tags), path
        assert page.tags.count("script") == 1 and not page.styled, path
        assert not re.search(r"href=\"?\s*javascript:", path.read_text()), path


def test_a_measure_on_a_single_problem_has_no_error_and_is_drawn(own_arc: Home, tmp_path: Path) -> None:
    point = {"series": "em", "round": 1, "steps": 20, "split": "held_out", "value": -8.25, "standard_error": None}
    metrics = ("iw_bound", "information", "gain over control", "common gain over control")
    rows = [{**point, "point_id": metric, "metric": metric, "problems": 1} for metric in metrics]
    own_arc.commit("em_curves", rows, "cold_start_bounds", "em_bounds", "common_bounds", "problem_generator")
    export(own_arc.path, tmp_path / "out")
    front = (tmp_path / "out" / "index.html").read_text()
    assert front.count("em, 1: -8.25, one problem") == 2 and front.count(">one problem</td>") == 2


def test_failures_come_first_with_the_next_command(arc: Home, tmp_path: Path) -> None:
    failed = Failure("problems [first]", "row 3 of <seeds.jsonl> has no problem", "promptcot run")
    export(arc.path, tmp_path / "out", failures=[failed])
    front = (tmp_path / "out" / "index.html").read_text()
    assert "row 3 of &lt;seeds.jsonl&gt; has no problem" in front and "<code>promptcot run</code>" in front
    assert '<rect class="node failed"' in front


def test_an_export_is_replaced_and_anything_else_is_not(arc: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(arc.path, out, "problems", sample=1)
    export(arc.path, out, "problems", sample=2)
    assert len(list((out / "problems").glob("problem_*.html"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(LakeError, match="is no reader"):
        export(arc.path, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(("arguments", "says"), [
    (("nothing",), "there is no table 'nothing'"),
    (("problems", "tenth"), "no commit problems of partition tenth"),
    (("problems", "", "nonsense > 1"), "nonsense"),
    (("", "", "true"), "needs a table"),
])  # fmt: skip
def test_what_is_not_there_is_one_error(arc: Home, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(LakeError, match=says):
        export(arc.path, tmp_path / "out", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_too_many_records_are_refused_before_anything_is_written(
    arc: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_RECORDS", 2)
    with pytest.raises(LakeError, match="--sample"):
        export(arc.path, tmp_path / "out", "seed_problems")


@pytest.mark.parametrize("row_id", ["0cc9937bf019a53f", "seed problems", "a/../b", "..", "~7e~", "ä%20?#", "con.html"])
def test_an_id_is_a_file_name_and_back(row_id: str) -> None:
    assert unslug(slug(row_id)) == row_id
    assert "/" not in slug(row_id) and not slug(row_id).startswith(".")


def test_the_command_line_writes_it(arc: Home, tmp_path: Path) -> None:
    arguments = ["read", "problems", "first", "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(main, arguments, env={"PROMPTCOT_HOME": str(arc.path)})
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["records"] == 2 and (tmp_path / "out" / "index.html").exists()
