"""The reader behind its server: only with the token, only from this machine, lists paged, marks kept."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from html import unescape
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from promptcot_assets.lake import LakeError
from promptcot_assets.reports.reader import marks, server
from promptcot_assets.reports.reader.front import Failure
from promptcot_assets.reports.reader.pages import slug
from promptcot_assets.reports.reader.server import Reader
from promptcot_assets.reports.reader.training import differences
from tests.reports.reader.hostile import SCRIPT, make_hostile
from tests.small_home import BATCH, STUDENT, Home


@pytest.fixture
def reader(own_arc: Home) -> Reader:
    return Reader(own_arc.path)


@pytest.fixture
def client(reader: Reader) -> Iterator[TestClient]:
    base = f"http://127.0.0.1/{reader.token}/"
    with TestClient(reader.application(), base_url=base, follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("path", ["", "problems/index.html", "problems/problem_1.html", "seed_problems/seed_1.html",
                                  "em/index.html", "models/index.html", "marks/index.html", "reader.js", "reader.css",
                                  "benchmark_scores/score_sft.html", "dropped_problems/raw_3.html"])  # fmt: skip
def test_pages_are_there_under_a_strict_policy(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"


def test_without_the_token_there_is_nothing(reader: Reader) -> None:
    with TestClient(reader.application(), base_url="http://127.0.0.1/") as client:
        for path in ("/", "/problems/index.html", "/x/index.html", f"/{reader.token[:-1]}/index.html"):
            assert client.get(path).status_code == 404
        assert client.post("/x/mark", content="table=problems&row=problem_1&verdict=bad").status_code == 404


def test_another_host_name_is_refused(reader: Reader) -> None:
    with TestClient(reader.application(), base_url="http://evil.example/") as client:
        assert client.get(f"/{reader.token}/index.html").status_code == 400


def test_a_row_about_a_problem_leads_to_its_page(client: TestClient) -> None:
    answer = client.get("rollouts/rollout_1.html?list=rollouts&at=0")
    assert answer.status_code == 303
    assert answer.headers["location"] == "../problems/problem_2.html?list=rollouts&at=0#rollouts-rollout_1"


def test_what_is_about_a_problem_is_read_on_its_page_and_not_behind_a_link_to_it(client: TestClient) -> None:
    shown = client.get("problems/problem_2.html").text
    for part in ("teacher_traces-trace_2", "rollouts-rollout_1", "math_answers-label_2", "preference_pairs-pair_1"):
        assert f'id="{part}"' in shown, part
    assert "so 7" in shown


def test_two_models_stand_side_by_side(client: TestClient, own_arc: Home) -> None:
    sft, played = own_arc.models["sft_model"], own_arc.models["self_play_model"]
    shown = client.get("models/compare.html", params={"first": sft, "second": played})
    assert shown.status_code == 200
    for part in (sft, played, "only here", f"sft_examples[{STUDENT}]@1", "Settings that differ", "avg@1"):
        assert part in shown.text, part
    assert sft in client.get("models/index.html").text
    missing = client.get("models/compare.html", params={"first": sft, "second": "sft_model/none"})
    assert missing.status_code == 404 and "there is no model sft_model/none" in missing.text


def test_settings_that_differ_are_named_by_their_path() -> None:
    one = {"seed": 0, "arguments": {"learning_rate": 0.1, "lr": [1, 2]}, "settings": []}
    other = {"seed": 0, "arguments": {"learning_rate": 0.2, "lr": [1]}}
    assert differences(one, other) == [("arguments.learning_rate", 0.1, 0.2), ("arguments.lr.1", 2, None)]


def test_a_list_is_filtered_searched_and_sorted(client: TestClient) -> None:
    assert "1 record<" in client.get("seed_problems/index.html?q=TWO").text
    assert "1 record<" in client.get("seed_problems/index.html?is.split=held_out").text
    shown = client.get("seed_problems/index.html?sort=source_row&desc=1").text
    assert shown.index("three?") < shown.index("two?") < shown.index("one?")
    assert "2 records" in client.get("seed_problems/index.html?where=source_row+%3E+1").text
    assert "2 records" in client.get("seed_problems/index.html?q=ratios").text
    assert "0 records" in (found := client.get("seed_problems/index.html?q=ratios&in=problem").text)
    assert "<option selected>problem</option>" in found
    assert "q=two&amp;in=problem" in client.get("seed_problems/index.html?q=two&in=problem").text  # of its row's link


def test_a_wrong_condition_is_said_above_an_empty_list(client: TestClient) -> None:
    answer = client.get("problems/index.html?where=nonsense")
    assert answer.status_code == 200 and 'role="alert"' in answer.text and "nonsense" in answer.text


def test_previous_and_next_stay_in_the_list_that_was_opened(client: TestClient) -> None:
    page = client.get("seed_problems/seed_2.html?list=seed_problems&at=1&sort=source_row").text
    assert re.search(r'rel="prev"[^>]*href="../seed_problems/seed_1.html\?[^"]*at=0"', page)
    assert re.search(r'rel="next"[^>]*href="../seed_problems/seed_3.html\?[^"]*at=2"', page)
    assert "2 of 3" in page
    first = client.get("seed_problems/seed_1.html?list=seed_problems&at=0").text
    assert 'rel="prev"' not in first and 'rel="next"' in first


@pytest.mark.parametrize("path", ["nothing/index.html", "problems/none.html", "problems/x.txt", "../../etc/passwd.html",
                                  "problems/problem_1.html?list=nothing&at=1", "problems/%00.html"])  # fmt: skip
def test_what_is_not_there_is_said_in_one_sentence(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "Traceback" not in answer.text


def test_a_mark_is_kept_and_shown(client: TestClient, own_arc: Home) -> None:
    form = {"table": "problems", "row": "problem_1", "verdict": "bad", "reason": "<b>no answer</b>"}
    answer = client.post("mark", data=form)
    assert answer.status_code == 303 and answer.headers["location"].startswith("problems/problem_1.html?")
    (made,) = marks.marks(own_arc.path)
    assert (made["row_id"], made["verdict"], made["version"]) == ("problem_1", "bad", "problems[first]@1")
    assert "&lt;b&gt;no answer&lt;/b&gt;" in client.get("problems/problem_1.html").text
    assert "problem_1" in client.get("marks/index.html").text


@pytest.mark.parametrize("form", [{"verdict": "bad"}, {"table": "problems", "row": "problem_1", "verdict": "ugly"},
                                  {"table": "problems", "row": "none", "verdict": "bad"}])  # fmt: skip
def test_what_is_no_mark_changes_nothing(client: TestClient, own_arc: Home, form: dict[str, str]) -> None:
    assert client.post("mark", data=form).status_code == 404
    assert marks.marks(own_arc.path) == []


def test_an_endless_form_is_refused(client: TestClient) -> None:
    assert client.post("mark", content="reason=" + "x" * 100_000).status_code == 413


def test_what_is_committed_meanwhile_is_there(client: TestClient, own_arc: Home) -> None:
    assert "problem_9" not in client.get("problems/index.html").text
    make_hostile(own_arc)
    page = client.get("problems/index.html").text
    assert "problem_9" in page and SCRIPT not in page
    assert client.get("problems/problem_9.html").status_code == 200


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("problems", "tenth"), ("problems", "", "nonsense"), ("", "", "true")]
)
def test_it_does_not_start_on_what_is_not_there(arc: Home, arguments: tuple[str, ...]) -> None:
    with pytest.raises(LakeError):
        Reader(arc.path, tuple, *arguments)


def test_every_vote_and_program_is_on_the_page_of_its_problem(own_arc: Home) -> None:
    about = {"problem_id": "problem_2", "model": "procedural", "finish_reason": "stop"}
    votes = [{"vote_id": f"vote_{at}", "attempt": at, "seed": at, "answer": "7", "completion": text, **about}
             for at, text in enumerate(("so it is seven", None))]  # fmt: skip
    own_arc.commit("math_votes", votes, "problems", partition=BATCH)
    programs = [
        {"program_id": "program_1", "attempt": 0, "program": "print(1)", "completion": "here: print(1)", **about}
    ]
    own_arc.commit("candidate_programs", programs, "problems", partition=BATCH)
    reader = Reader(own_arc.path)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        shown = client.get("problems/problem_2.html").text
    for part in ('id="math_votes-vote_0"', 'id="math_votes-vote_1"', 'id="candidate_programs-program_1"',
                 "so it is seven", "The completion was not kept", "here: print(1)"):  # fmt: skip
        assert part in shown, part


@pytest.mark.parametrize("name", ["~ffffffff~", "~110000~", "~d800~", "~" + "f" * 400 + "~", "%FF", "~.~d800~"])
def test_an_address_that_no_id_has_is_not_there(client: TestClient, name: str) -> None:
    for folder in ("problems", "models"):
        answer = client.get(f"{folder}/{name}.html")
        assert answer.status_code == 404 and "has no row" in answer.text


@pytest.mark.parametrize("path", ["problems", "em", "marks", "models"])
def test_a_folder_without_its_slash_leads_to_its_page(client: TestClient, path: str) -> None:
    answer = client.get(path, params={"sort": "level", "q": "new 1"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{path}/index.html?sort=level&q=new%201"
    assert client.get(path).headers["location"] == f"{path}/index.html"


@pytest.mark.parametrize("path", ["x.html", "problems/none.html", "a/b/c.html", "nothing/"])
def test_links_of_a_page_that_says_what_is_missing_lead_home(client: TestClient, reader: Reader, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    (home,) = re.findall(r'<a href="([^"]*)" accesskey="h">', answer.text)
    assert urljoin(f"/{reader.token}/{path}", home) == f"/{reader.token}/index.html"


def test_names_of_a_query_that_nobody_asked_for_change_nothing(client: TestClient) -> None:
    answer = client.get("rollouts/rollout_1.html?asked=1&self=2&record=3&path=4&table=5")
    assert answer.status_code == 303 and client.get(f"rollouts/{answer.headers['location']}").status_code == 200
    assert client.get("problems/index.html?asked=1&self=2&table=3&is.=4").status_code == 200


def test_a_mark_that_is_refused_says_so_on_a_page_with_its_links(client: TestClient) -> None:
    answer = client.post("mark", data={"table": "problems", "row": "none", "verdict": "bad"})
    assert answer.status_code == 404 and 'href="index.html"' in answer.text and 'href="reader.css"' in answer.text


@pytest.mark.parametrize("page", ["2", "99999999999"])
def test_a_page_after_the_last_one_is_the_last_one(client: TestClient, page: str) -> None:
    shown = client.get(f"seed_problems/index.html?page={page}").text
    assert "one?" in shown and "3 records" in shown
    shown = client.get("seed_problems/seed_2.html?list=seed_problems&at=99999999999").text
    assert "100000000000" not in shown


def test_runs_that_cannot_be_read_leave_the_front_page_readable(own_arc: Home) -> None:
    def unreadable() -> list[Failure]:
        raise sqlite3.OperationalError("unable to open database file")

    reader = Reader(own_arc.path, unreadable)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        answer = client.get("index.html")
    assert answer.status_code == 200
    assert "unable to open database file" in answer.text and "What this home is" in answer.text


def test_a_mark_that_cannot_be_written_is_said_in_one_sentence(client: TestClient, own_arc: Home) -> None:
    (own_arc.path / ".marks.lock").mkdir()  # as a disk that refuses to write does; root may write anywhere
    answer = client.post("mark", data={"table": "problems", "row": "problem_1", "verdict": "bad"})
    assert answer.status_code == 500 and ".marks.lock" in answer.text and "Traceback" not in answer.text
    assert "Not here" not in answer.text
    assert client.get("problems/problem_1.html").status_code == 200


def test_a_condition_that_asks_for_too_much_is_refused(client: TestClient) -> None:
    """DuckDB needs minutes to read some thousands of brackets, and nothing else is answered meanwhile."""
    for where, says in (("(" * 4_000, "brackets"), (f"problem = '{'x' * 40_000}'", "characters")):
        answer = client.get("problems/index.html", params={"where": where})
        assert answer.status_code == 200 and 'role="alert"' in answer.text and says in answer.text


def test_a_condition_without_an_end_leaves_the_reader_alive(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LONGEST_S", 1.0)
    endless = "(select sum(a.range * b.range) from range(3000000) a, range(3000000) b) > length(problem)"
    answer = client.get("problems/index.html", params={"where": endless})
    assert 'role="alert"' in answer.text and "ended after 1 seconds" in answer.text
    assert "2 records" in client.get("problems/index.html?where=problem+%3C%3E+'x'").text


@pytest.mark.parametrize(("table", "told"), [("difficulty", "new 2?"), ("rollouts", "new 2?"), ("em_bounds", "three?"),
                                            ("sft_examples", "new 1?"), ("benchmark_verdicts", "item 1?")])  # fmt: skip
def test_a_list_says_which_problem_its_rows_are_about(client: TestClient, table: str, told: str) -> None:
    shown = client.get(f"{table}/index.html").text
    assert ">problem</th>" in shown and f"<bdi>{told}</bdi>" in shown


def test_scores_of_a_model_name_their_benchmark(client: TestClient, own_arc: Home) -> None:
    name = own_arc.models["sft_model"]
    for page in (f"models/{slug(name)}.html", f"models/compare.html?first={name}&second={name}"):
        assert "<th>benchmark</th>" in (shown := client.get(page).text) and "<td>aime</td>" in shown


def test_votes_show_their_answers_and_no_verdict(own_arc: Home) -> None:
    about = {"problem_id": "problem_2", "model": "procedural", "finish_reason": "stop", "completion": "thus"}
    votes = [{"vote_id": f"vote_{at}", "attempt": at, "seed": at, "answer": answer, **about}
             for at, answer in enumerate(("seven", None))]  # fmt: skip
    own_arc.commit("math_votes", votes, "problems", partition=BATCH)
    reader = Reader(own_arc.path)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        shown = client.get("problems/problem_2.html").text
    votes_shown = shown[shown.index('<section class="below" id="math_votes">') :].partition("</section>")[0]
    assert "<bdi>seven</bdi>" in votes_shown and "no answer" in votes_shown and "not judged" not in votes_shown


def test_wrong_answers_that_agree_come_first(own_arc: Home) -> None:
    of = {"benchmark": "aime", "stage": "base", "model": own_arc.models["student_base"], "passed": False,
          "verdict": "wrong_answer"}  # fmt: skip
    answers = {"item_1": ("3", None), "item_2": ("5", "5")}
    rows = [{"generation_id": f"{item}_{at}", "item_id": item, "attempt": at, "answer": answer, **of}
            for item, given in answers.items() for at, answer in enumerate(given)]  # fmt: skip
    written = [
        {name: one[name] for name in ("generation_id", "item_id", "attempt", "benchmark", "stage", "model")}
        for one in rows
    ]
    own_arc.commit("benchmark_generations", written, "benchmark_items", "student_base", partition=STUDENT)
    own_arc.commit("benchmark_verdicts", rows, "benchmark_generations", "benchmark_items", partition=STUDENT)
    score = {"score_id": "score", "benchmark": "aime", "stage": "base", "metric": "majority@2", "value": 0.0,
             "model": own_arc.models["student_base"]}  # fmt: skip
    own_arc.commit("benchmark_scores", [score], "benchmark_verdicts", "benchmark_items", partition=STUDENT)
    reader = Reader(own_arc.path)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        shown = client.get("benchmark_scores/score.html").text
    assert shown.index("item 2?") < shown.index("item 1?")
    assert ">2 of 2</td>" in shown and ">1 of 2</td>" in shown and "no answer" in shown


def test_reasons_of_the_funnel_lead_to_what_fell(own_arc: Home) -> None:
    steps = {"parsed": {"no block": 1}, "unique": {"near": 1}, "labelled": {"tie": 1, "never seen": 2}}
    rows = [{"step_id": step, "batch": BATCH, "step": step, "position": at, "rows": 4, "dropped": json.dumps(fell)}
            for at, (step, fell) in enumerate(steps.items())]  # fmt: skip
    tie = {"label_id": "label_1", "problem_id": "problem_1", "voter": "procedural", "drop_reason": "tie"}
    own_arc.commit("math_answers", [tie], "problems", partition=BATCH)
    own_arc.commit("yield_report", rows, "raw_problems", "dropped_problems", "math_answers", partition=BATCH)
    reader = Reader(own_arc.path)
    with TestClient(reader.application(), base_url=f"http://127.0.0.1/{reader.token}/") as client:
        front = client.get("").text
        for table, column, reason in (("dropped_problems", "reason", "near"), ("math_answers", "drop_reason", "tie")):
            (link,) = re.findall(rf'href="({table}/index.html[^"]*{column}={reason}[^"]*)"', front)
            assert "1 record<" in client.get(unescape(link)).text
        (seeds,) = re.findall(r'href="([^"]*)">seeds that led to what fell', front)
        assert "1 record<" in client.get(unescape(seeds)).text
    assert "<bdi>never seen</bdi>" in front and "never%20seen" not in front


def test_shares_of_styles_lead_to_the_candidates(client: TestClient) -> None:
    shown = client.get("em/index.html").text
    found = {unescape(one) for one in re.findall(r'href="\.\./(em_rationales/index.html\?[^"]*is.style[^"]*)"', shown)}
    assert {client.get(one).text.partition('id="count">')[2].partition("<")[0] for one in found} == {
        "3 records", "2 records",
    }  # fmt: skip


def test_a_voter_that_is_no_model_of_this_home_is_no_link(client: TestClient, own_arc: Home) -> None:
    vote = {"vote_id": "vote", "problem_id": "problem_2", "model": "procedural", "completion": "thus"}
    own_arc.commit("math_votes", [vote], "problems", partition=BATCH)
    shown = client.get("problems/problem_2.html").text
    assert "attempt 0 by <bdi>procedural</bdi>" in shown and "models/procedural" not in shown
