from __future__ import annotations

import json
import re
from pathlib import Path

from promptcot_assets.lineage.ancestry import cost, with_ancestors
from promptcot_assets.lineage.history import History
from promptcot_assets.reports.cards import OWN_LICENCE, data_card, licence_of, model_card
from promptcot_assets.reports.export import export_table
from tests.lineage.test_backfill import assets_of, parsed
from tests.small_home import BATCH, DOMAIN, Home

LEAK = "find the sum of all integer bases larger than nine for which seventeen divides ninety seven"


def card_of_student(home: Home) -> str:
    history = History(home.path)
    return model_card(history, history.models[home.models["self_play_model"]])


def section(card: str, title: str) -> str:
    match = re.search(rf"## {title}\n\n(.*?)(?=\n## |\Z)", card, re.DOTALL)
    assert match, title
    return match[1]


def front_matter(card: str) -> dict[str, object]:
    return json.loads(card.splitlines()[1])


def test_a_models_cost_is_the_sum_over_its_ancestors_each_once(arc: Home) -> None:
    history = History(arc.path)
    behind = with_ancestors(history, [history.models[arc.models["self_play_model"]]])
    refs = [one.ref for one in behind]
    assert len(refs) == len(set(refs)) and {one.ref for one in arc.lake.ancestors(refs[0])} == set(refs[1:])
    total = cost(behind)
    assert total.tokens == sum(arc.lake.commit_of(ref).provenance.tokens for ref in refs) > 0
    assert section(card_of_student(arc), "Cost").startswith(f"{total}, ancestors included.")


def test_a_model_card_names_every_version_behind_it_and_its_scores(arc: Home) -> None:
    card = card_of_student(arc)
    assert card.startswith("---\n") and f"# {arc.models['self_play_model']}" in card
    assert "| aime | avg@1 | 1 |" in section(card, "Scores") and "| base | avg" not in card
    for name in ("seed_problems", "em_rationales", "sft_examples"):
        ref = arc.refs[name]
        assert f"| `{ref}` | {ref.rows:,} | `{ref.data_version}` |" in section(card, "Made from")
    assert "benchmark_scores" not in section(card, "Made from")


def test_the_funnel_is_the_one_of_the_problems_that_were_used(own_arc: Home) -> None:
    own_arc.commit(
        "yield_report", [{"step_id": "s", "batch": BATCH, "step": "parsed", "rows": 3, "dropped": '{"near": 1}'}],
        "raw_problems", "problems", partition=BATCH,
    )  # fmt: skip
    assert '| first | mini_maths | parsed | 3 | {"near": 1} |' in section(card_of_student(own_arc), "Funnel")
    own_arc.commit("problems", [], "raw_problems", partition=BATCH)
    own_arc.commit("yield_report", [], "problems", partition=BATCH)  # of other problems than the student's
    assert section(card_of_student(own_arc), "Funnel").startswith("No yield report of these batches.")


def test_the_commands_make_everything_behind_the_model_inputs_first(arc: Home) -> None:
    lines = section(card_of_student(arc), "Make it again").splitlines()
    assert "`PROMPTCOT_SEED` 0" in "".join(lines)
    order = [asset for selection, _ in parsed([one for one in lines if one.startswith("dagster")])
             for asset in assets_of(selection)]  # fmt: skip
    assert order.index("seed_problems") < order.index("sft_model") < order.index("self_play_model")
    assert "benchmark_scores" not in order


def test_settings_are_given_in_full(arc: Home) -> None:
    (line,) = [one for one in section(card_of_student(arc), "Settings").splitlines() if one.startswith("{")]
    assert list(json.loads(line).values()) == [{"size": 1}]


def test_the_verdict_is_found_by_searching_not_asserted(own_arc: Home) -> None:
    assert "**Clean**: 0 of 4 training problems" in section(card_of_student(own_arc), "Contamination")
    assert "1 more fell for that reason" in section(card_of_student(own_arc), "Contamination")
    own_arc.commit("benchmark_items", [{"item_id": "leak", "benchmark": "aime", "problem": LEAK}])
    own_arc.commit("seed_problems", [
        {"problem_id": "copied", "problem": f"Please {LEAK}.", "split": "train", "source": "s.jsonl"},
        {"problem_id": "held_out", "problem": LEAK, "split": "held_out", "source": "s.jsonl"},
    ])  # fmt: skip
    own_arc.train("base_model", "seed_problems", weights="leaky")
    history = History(own_arc.path)
    found = section(model_card(history, history.models[own_arc.models["base_model"]]), "Contamination")
    assert "**Contaminated**: 1 of 1 training problems" in found and "1 are seeds, 0 synthetic" in found
    assert "| copied | aime | leak |" in found


def test_without_benchmarks_nothing_is_claimed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.commit("seed_problems", [{"problem_id": "a", "problem": "one?", "split": "train", "source": DOMAIN}])
    export_table(home.path, "seed_problems", None, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert section(card, "Contamination").startswith("Not checked")
    assert front_matter(card)["license"] == OWN_LICENCE  # its one source is a procedural domain


def test_a_licence_is_claimed_only_where_it_is_known(arc: Home, tmp_path: Path) -> None:
    assert licence_of(DOMAIN) == OWN_LICENCE and licence_of("maths") != OWN_LICENCE
    card = card_of_student(arc)
    assert "license" not in front_matter(card)
    assert "| s.jsonl | seed problems | 3 | not recorded" in section(card, "Sources and licences")
    export_table(arc.path, "problems", None, tmp_path / "out", licence="cc-by-4.0")
    assert front_matter((tmp_path / "out" / "README.md").read_text())["license"] == "cc-by-4.0"


def test_models_from_outside_are_sources_too(own_arc: Home) -> None:
    """A teacher that voted, and a base from the hub; not our own models that others start from."""
    own_arc.models["hub"] = "org/base"
    own_arc.train("student_base", "base_model", "seed_problems", partition="tiny", base="hub", weights="of the hub")
    own_arc.models["teacher"] = "org/teacher"
    own_arc.train("teacher_model", partition="big", base="teacher")
    own_arc.commit("math_answers", [{"label_id": "l", "problem_id": "problem_1", "answer": "7"}],
                   "problems", "teacher_model", partition=BATCH)  # fmt: skip
    own_arc.commit("teacher_traces", [], "problems", "math_answers", partition=BATCH)
    own_arc.commit("sft_examples", [], "teacher_traces", partition="tiny")
    model = own_arc.train("sft_model", "student_base", "sft_examples", partition="tiny", base="student_base")
    history = History(own_arc.path)
    found = section(model_card(history, history.models[model]), "Sources and licences")
    assert "| org/base | base model |" in found and "| org/teacher | teacher |" in found
    assert "student_base/" not in found


def test_no_cell_is_html(own_arc: Home) -> None:
    """What is in a row may come from anywhere: a card is shown by browsers."""
    hostile = "<img src=x onerror=alert(1)> & <script>"
    own_arc.commit("benchmark_items", [{"item_id": "i", "benchmark": hostile, "problem": "What is 1 + 1?"}])
    own_arc.commit("seed_problems", [{"problem_id": "s", "problem": "?", "split": "train", "source": hostile}])
    history = History(own_arc.path)
    card = data_card(history, [own_arc.refs["seed_problems"]], {"problem": hostile}, {})
    assert "<img" not in card and "<script" not in card and "&lt;img src=x onerror=alert(1)&gt; &amp;" in card
