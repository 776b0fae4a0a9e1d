"""Decontamination on planted copies of the published benchmarks, on paraphrases and on unrelated text."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages.corpus.reading import read_seeds
from promptcot_assets.stages.decontamination import HIT_SCHEMA, DecontaminationError, contaminated, with_texts

BENCHMARKS = ("aime24", "aime25", "hmmt25", "gsm8k", "codeforces")
WRAPPERS = [
    "{}",
    "<|im_start|>user\n{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n",
    "<｜begin▁of▁sentence｜>Please reason step by step, and put your final answer within \\boxed{{}}.<｜User｜>{}"
    "<｜Assistant｜>",
    "<|im_start|>user\nAn example: {}<|im_end|>\n<|im_start|>assistant\n7<|im_end|>\n"
    "<|im_start|>user\nNext one.<|im_end|>",
]


@pytest.fixture(scope="module")
def benchmarks(published: Path) -> dict[str, list[dict]]:
    items = {}
    for name in BENCHMARKS:
        rows, _ = read_seeds(published / f"{name}.jsonl")
        items[name] = [{"id": f"{name}:{row['row']}", "text": row["problem"]} for row in rows]
    return items


def gibberish(rng: random.Random, words: int) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(5, 9))) for _ in range(words))


def hit_pairs(table: pa.Table) -> set[tuple[str, str]]:
    return {(hit["problem_id"], hit["item_id"]) for hit in table.to_pylist()}


@pytest.mark.parametrize("wrapper", range(len(WRAPPERS)))
def test_thirteen_words_of_any_benchmark_item_are_found_inside_wrappers(benchmarks, wrapper):
    rng = random.Random(wrapper)
    problems, planted = [], set()
    for rows in benchmarks.values():
        for row in rng.sample(rows, 30):
            words = "".join(sign if sign.isalnum() else " " for sign in row["text"]).split()
            start = rng.randrange(len(words) - 13)
            text = f"{gibberish(rng, 20)} {' '.join(words[start : start + 13])} {gibberish(rng, 20)}"
            problems.append({"id": f"in {row['id']}", "text": WRAPPERS[wrapper].format(text)})
            planted.add((f"in {row['id']}", row["id"]))
            twelve = f"{gibberish(rng, 20)} {' '.join(words[start : start + 12])} {gibberish(rng, 20)}"
            problems.append({"id": f"not {row['id']}", "text": WRAPPERS[wrapper].format(twelve)})
    hits = contaminated(problems, benchmarks)
    assert planted <= hit_pairs(hits)
    assert not any(hit["problem_id"].startswith("not") for hit in hits.to_pylist())
    assert all(hit["words"] >= 13 and hit["match"] == "ngram" for hit in hits.to_pylist())


def test_a_wrapped_benchmark_file_is_contaminated_by_itself(benchmarks, published):
    prompts = [json.loads(line)["prompt"] for line in (published / "aime24.jsonl").read_text().splitlines()]
    problems = pa.Table.from_pylist([{"id": str(i), "text": prompt} for i, prompt in enumerate(prompts)])
    hits = contaminated(problems, {"aime24": benchmarks["aime24"]}).to_pylist()
    exact = {(hit["problem_id"], hit["item_id"]) for hit in hits if hit["match"] == "exact"}
    assert exact == {(str(i), f"aime24:{i + 1}") for i in range(30)}
    assert all(hit["overlap"] == 1 for hit in hits if hit["match"] == "exact")


def test_unrelated_text_and_the_published_seeds_are_clean(benchmarks, published):
    rng = random.Random(0)
    problems = [{"id": str(i), "text": gibberish(rng, 90)} for i in range(300)]
    triples, _ = read_seeds(published / "seed_triples_math.jsonl")
    problems += [{"id": f"seed {row['row']}", "text": row["problem"]} for row in triples]
    assert len(contaminated(problems, benchmarks)) == 0


ITEM = (
    "Every morning Aya goes for a $9$-kilometer-long walk and stops at a coffee shop afterwards. When she walks at a "
    "constant speed of $s$ kilometers per hour, the walk takes her 4 hours."
)


@pytest.mark.parametrize(
    ("problem", "words", "why"),
    [
        (ITEM, 35, "the same"),
        (ITEM.upper().replace("$", "") + "\n", 35, "case, dollars and white space"),
        (ITEM.replace(" ", "  \n").replace(".", ";"), 35, "line breaks and punctuation"),
        (ITEM.replace("Aya", "Bob"), 32, "a name changed: the rest is a long run"),
        (f"Prove this. {ITEM} Then rest.", 35, "inside another text"),
        (
            "Each day Aya hikes nine kilometres and then has a coffee. At s km per hour it takes 4 hours.",
            0,
            "paraphrase",
        ),
        (" ".join(f"{w} and" if i % 8 == 7 else w for i, w in enumerate(ITEM.split())), 0, "cut before thirteen"),
    ],
)
def test_copies_and_paraphrases(problem, words, why):
    hits = contaminated([{"id": "p", "text": problem}], {"aime": [{"id": "i", "text": ITEM}]}).to_pylist()
    assert [hit["words"] for hit in hits] == ([words] if words else [])
    for hit in hits:
        assert len(hit["matched_span"].split()) == words
        assert hit["problem_span"] in problem.lower() and hit["problem_span"].split()[-1]


@pytest.mark.parametrize(
    ("problem", "item", "match"),
    [
        ("Compute 3 + 4.", "compute $3+4$", "exact"),
        ("Compute 3 - 4.", "compute $3+4$", None),
        ("Compute 3 + 5.", "compute $3+4$", None),
        ("Please compute 3 + 4.", "compute $3+4$", None),
        ("[INST] Compute 3 + 4. [/INST]", "compute $3+4$", "exact"),
        ("!", "!!", None),
        ("", "", None),
    ],
)
def test_short_texts_match_only_as_a_whole(problem, item, match):
    hits = contaminated([{"id": "p", "text": problem}], {"b": [{"id": "i", "text": item}]}).to_pylist()
    assert [hit["match"] for hit in hits] == ([match] if match else [])


def test_overlap_tells_stock_phrases_from_copies():
    stock = "can be written as m over n where m and n are relatively prime positive integers find m plus n"
    rng = random.Random(0)
    item = f"{gibberish(rng, 40)} {stock}"
    problems = [{"id": "stock", "text": f"{gibberish(rng, 40)} {stock}"}, {"id": "copy", "text": f"so {item} now"}]
    hits = {hit["problem_id"]: hit for hit in contaminated(problems, {"b": [{"id": "i", "text": item}]}).to_pylist()}
    assert hits["stock"]["overlap"] == pytest.approx((20 - 12) / (60 - 12)) and hits["copy"]["overlap"] == 1
    only = contaminated(problems, {"b": [{"id": "i", "text": item}]}, min_overlap=0.5)
    assert only["problem_id"].to_pylist() == ["copy"]


@settings(max_examples=50)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), min_size=1, max_size=6), st.integers(2, 4), st.data())
def test_agrees_with_plain_python(items, n, data):
    problems = data.draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=9), max_size=6))

    def grams(words):
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    expected = {
        (f"p{p}", f"i{i}")
        for p, problem in enumerate(problems)
        for i, item in enumerate(items)
        if grams(problem) & grams(item) or (problem == item and problem)
    }
    hits = contaminated(
        [{"id": f"p{p}", "text": " ".join(words)} for p, words in enumerate(problems)],
        {"b": [{"id": f"i{i}", "text": " ".join(words)} for i, words in enumerate(items)]},
        n=n,
    )
    assert hit_pairs(hits) == expected and hits.num_rows == len(expected)
    for hit in hits.to_pylist():
        problem, item = problems[int(hit["problem_id"][1:])], items[int(hit["item_id"][1:])]
        runs = [
            problem[a:b] for a in range(9) for b in range(a, 10) if b - a >= n and grams(problem[a:b]) <= grams(item)
        ]
        assert hit["words"] == (len(problem) if hit["match"] == "exact" else max(map(len, runs)))


def test_the_report_has_both_texts_whole():
    problems = [{"id": "p", "text": f"So: {ITEM} Then rest."}, {"id": "q", "text": "Is it so?"}]
    items = {"aime": [{"id": "i", "text": WRAPPERS[1].format(ITEM)}], "hmmt": [{"id": "i", "text": "is it so"}]}
    hits = contaminated(problems, items)
    report = with_texts(hits, problems, items)
    assert report.drop_columns(["problem", "item"]).equals(hits)
    found = {(row["problem_id"], row["benchmark"]): (row["problem"], row["item"]) for row in report.to_pylist()}
    assert found == {("p", "aime"): (f"So: {ITEM} Then rest.", ITEM), ("q", "hmmt"): ("Is it so?", "is it so")}
    assert len(with_texts(hits.slice(0, 0), problems, items)) == 0


def test_a_short_text_in_a_wrapper_is_found_among_long_items():
    items = {"b": [{"id": "short", "text": "compute $3+4$"}, {"id": "long", "text": ITEM}]}
    problems = [{"id": str(i), "text": wrapper.format("Compute 3 + 4.")} for i, wrapper in enumerate(WRAPPERS[:3])]
    assert hit_pairs(contaminated(problems, items, workers=2)) == {(str(i), "short") for i in range(3)}


def test_no_run_is_found_across_the_border_of_two_texts():
    words = ITEM.split()
    problems = [{"id": "1", "text": " ".join(words[:10])}, {"id": "2", "text": " ".join(words[10:20])}]
    assert len(contaminated(problems, {"b": [{"id": "i", "text": ITEM}]})) == 0


def test_both_forms_of_benchmarks_and_a_stable_order():
    items = [{"benchmark": name, "item_id": name, "prompt": "one two"} for name in "ba"]
    problems = [{"problem_id": "y", "problem": "One, $two$."}, {"problem_id": "x", "problem": "one two"}]
    hits = contaminated(problems, items)
    assert hits.schema == HIT_SCHEMA
    assert [(h["problem_id"], h["benchmark"], h["item_id"]) for h in hits.to_pylist()] == [
        ("x", "a", "a"),
        ("x", "b", "b"),
        ("y", "a", "a"),
        ("y", "b", "b"),
    ]
    assert contaminated(pa.Table.from_pylist(problems[::-1]), pa.Table.from_pylist(items[::-1])).equals(hits)


@pytest.mark.parametrize(
    ("problems", "benchmarks", "arguments", "says"),
    [
        ([{"id": "a"}], {"b": [{"id": "i", "text": "x"}]}, {}, "problems: row 0 .* no `text`"),
        ([{"id": "a", "text": "x"}], {"b": [{"text": "x"}]}, {}, "benchmark b: row 0 .* no `id`"),
        ([], [{"id": "i", "text": "x"}], {}, "item 0 .*`benchmark`"),
        ([], {}, {}, "no benchmark items"),
        ([], {"b": [{"id": "i", "text": "x"}]}, {"n": 1}, "n=1"),
        ([], {"b": [{"id": "i", "text": "x"}]}, {"min_overlap": 2}, "min_overlap=2"),
    ],
)
def test_bad_input_is_named(problems, benchmarks, arguments, says):
    with pytest.raises(DecontaminationError, match=says):
        contaminated(problems, benchmarks, **arguments)
