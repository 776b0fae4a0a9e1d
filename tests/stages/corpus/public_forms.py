# ruff: noqa: E501
"""One small file in the shape of every public set that is read: true columns, invented problems, and what must come out.

The problems and answers are written for these tests; nothing here is copied from a set.
"""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A file and what is read of it. answers, tests, solutions: a row each; tests: how many cases."""

    rows: list[Row]
    form: str
    answers: list[str | None]
    tests: list[int] = field(default_factory=list)
    solutions: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    used: dict[str, str] = field(default_factory=dict)  # some of it
    problems: list[str] = field(default_factory=list)
    domain: str = "maths"
    more: list[Row] = field(default_factory=list)  # other columns of each row, as they must be


def packed(tests: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def chat(text: str, *replies: str) -> list[Row]:
    return [{"role": "user", "content": text}, *({"role": "assistant", "content": reply} for reply in replies)]


def verl(text: str, truth: Any, **more: Any) -> Row:
    return {
        "data_source": "some_source", "prompt": chat(text), "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": truth}, "extra_info": {"index": 0, "split": "train"},
    } | more  # fmt: skip


PROOF = "a proof is asked for, which has no answer to grade"
ADD = "Read two integers and print their sum."
IO = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7\n"]}
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
SYNTHETIC = (
    "Solve the following math problem efficiently and clearly. Please reason step by step, separate logical reasoning "
    "steps with two newlines (\\n\\n), and put your final answer within \\boxed{{}}.\nProblem: {}"
)
PROGRAM = (
    "Solve the following coding problem using the programming language python:\n\n{}\n\nThe input will be stdin and you "
    "should print your solution to stdout\n\n\nNow solve the problem and return the code."
)
LIVE = {
    "question_title": "Sum", "platform": "atcoder", "question_id": "abc1_a", "contest_id": "abc1",
    "contest_date": "2025-02-03T00:00:00", "difficulty": "easy",
}  # fmt: skip
STDIN = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
CALL = [{"input": "[1, 2]\n3", "output": "6", "testtype": "functional"}]
STARTER = "class Solution:\n    def total(self, xs, y):\n        "
NUMINA = {"problem_type": "Algebra", "question_type": "math-word-problem", "source": "cn_k12", "synthetic": False}
YES = {"problem_is_valid": "Yes", "solution_is_valid": "Yes"}
HALF = r"So it is $\boxed{\frac{1}{2}}$."
GENERATED = (
    "<!-- BEGIN RATIONALE -->Start from sums.<!-- END RATIONALE --><!-- BEGIN PROBLEM -->What is {} + 1?"
    "<!-- END PROBLEM -->"
)
ASKED = (
    "Given foundational concepts and difficulty level, identify connections and develop a question that integrates these "
    "concepts with appropriate complexity.\n\nFoundational Concepts:\n1. sums\n2. whole numbers\n\nDifficulty Level: HMMT\n\n"
)
CODEFORCES = {
    "id": "1/A", "aliases": None, "contest_id": "1850", "contest_name": "Round 1", "contest_type": "CF",
    "contest_start": 1689000000, "contest_start_year": 2023, "index": "A", "time_limit": 2.0, "memory_limit": 256.0,
    "title": "Sum", "description": "Add them.", "input_format": "Two integers.", "output_format": "Their sum.",
    "interaction_format": None, "note": None, "examples": [{"input": "1 2", "output": "3"}], "editorial": None,
    "rating": 800.0, "tags": ["math"], "testset_size": 1, "official_tests": [{"input": "4 5", "output": "9"}],
    "official_tests_complete": True, "input_mode": "stdio", "generated_checker": None, "executable": True,
    "points": 500.0,
}  # fmt: skip

SHAPES: dict[str, Shape] = {
    "NuminaMath-CoT": Shape(
        [{"source": "olympiads", "problem": f"What is {n} / 2 for n = {n}?", "solution": HALF,
          "messages": chat(f"What is {n} / 2 for n = {n}?", HALF)} for n in (1, 2)]
        + [{"source": "olympiads", "problem": "Show it.", "solution": "It is clear.", "messages": chat("Show it.", "It is.")}],
        "NuminaMath-CoT", [r"\frac{1}{2}", r"\frac{1}{2}", None], solutions=3,
        used={"problem": "problem", "solution": "solution", "answer": "solution"},
    ),
    "NuminaMath-1.5": Shape(
        [
            {"problem": "What is 1 + 1?", "solution": "It is 2.", "answer": "2", **NUMINA, **YES},
            {"problem": "Prove it.", "solution": "Clear.", "answer": "proof", **NUMINA, **YES},
            {"problem": "Prove it again.", "solution": "Clear.", "answer": "x", **NUMINA, **YES, "question_type": "proof"},
            {"problem": "Find it.", "solution": "Lost.", "answer": "notfound", **NUMINA, **YES},
            {"problem": "What?", "solution": "No.", "answer": "3", **NUMINA, **YES, "problem_is_valid": "Incomplete"},
            {"problem": "How?", "solution": "No.", "answer": "3", **NUMINA, **YES, "solution_is_valid": "No"},
        ],
        "NuminaMath-1.5, OpenR1-Math", ["2"], solutions=1,
        dropped={PROOF: 2, "the source did not find the answer": 1,
                 "its source says that the problem or the solution is not valid": 2},
    ),
    "OpenR1-Math": Shape(
        [{"problem": "What is 1 + 1?", "solution": "It is 2.", "answer": "2", **NUMINA, "uuid": "a",
          "is_reasoning_complete": [True], "generations": ["<think>2</think>2"], "correctness_math_verify": [True],
          "correctness_llama": None, "finish_reasons": None, "correctness_count": 1,
          "messages": chat("What is 1 + 1?", "<think>2</think>2")}],
        "NuminaMath-1.5, OpenR1-Math", ["2"], solutions=1,
    ),
    "OpenMathReasoning": Shape(
        [{"expected_answer": answer, "problem_type": "has_answer_extracted", "problem_source": "aops_c4_high_school_math",
          "generation_model": "DeepSeek-R1", "pass_rate_72b_tir": "0.5", "problem": f"What is {answer}?",
          "generated_solution": f"<think>Look.</think>It is \\boxed{{{answer}}}.", "inference_mode": "cot",
          "used_in_kaggle": True} for answer in ("2", "x^2", r"\sqrt{3}")],
        "OpenMathReasoning, OpenMathInstruct", ["2", "x^2", r"\sqrt{3}"], solutions=3,
        used={"problem": "problem", "answer": "expected_answer", "solution": "generated_solution"},
    ),
    "OpenMathInstruct-2": Shape(
        [{"problem": "What is 1 + 1?", "generated_solution": "It is \\boxed{2}.", "expected_answer": "2",
          "problem_source": "augmented_math"}],
        "OpenMathReasoning, OpenMathInstruct", ["2"], solutions=1,
    ),
    "OpenMathInstruct-1": Shape(
        [{"question": f"What is {n} + 1?", "expected_answer": "2", "predicted_answer": "2", "error_message": "",
          "is_correct": good, "generated_solution": "It is \\boxed{2}.", "dataset": "gsm8k"}
         for n, good in ((1, True), (2, False))],
        "OpenMathReasoning, OpenMathInstruct", ["2"], solutions=1,
        dropped={"its source says that the solution is wrong": 1},
    ),
    "DeepScaleR": Shape(
        [{"problem": "What is 1 + 1?", "answer": "2", "solution": "Add. $\\boxed{2}$"},
         {"problem": "What is 2 + 1?", "answer": "3", "solution": ""}],
        "columns by name", ["2", "3"], solutions=1, used={"answer": "answer"},
    ),
    "DAPO-Math-17k": Shape(
        [verl(DAPO.format(f"What is {n} + 1?"), str(n + 1), data_source="math_dapo", ability="MATH") for n in (1, 2)],
        "DAPO-Math-17k", ["2", "3"], problems=["What is 1 + 1?", "What is 2 + 1?"],
        used={"problem": "prompt", "answer": "reward_model.ground_truth"},
    ),
    "DAPO-Math-17k-Processed": Shape(
        [{"prompt": "What is 33 + 1?", "solution": "34", "data_source": "math_dapo",
          "source_prompt": chat(DAPO.format("What is 33 + 1?")), "ability": "MATH",
          "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"}, "extra_info": {"index": "a"}}],
        "DAPO-Math-17k (processed)", ["34"], used={"answer": "solution"},
    ),
    "Skywork-OR1 maths": Shape(
        [verl(f"What is {n} + 1?\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
              json.dumps([str(n + 1)]), data_source="train-math-numinamath1.5") for n in (1, 2)],
        "Skywork-OR1", ["2", "3"], problems=["What is 1 + 1?", "What is 2 + 1?"],
        used={"answer": "reward_model.ground_truth"},
    ),
    "Skywork-OR1 code": Shape(
        [verl(ADD, json.dumps(IO), ability="code", data_source="train-code-taco-easy"),
         verl("Call it.", json.dumps({"assert_case": ["assert f(1) == 2"]}), ability="code")],
        "verl", [None], tests=[2], domain="code", used={"tests": "reward_model.ground_truth"},
        dropped={"unusable tests: they are assertions in Python; write them as inputs and expected outputs": 1},
    ),
    "verl GSM8K": Shape(
        [verl('Ann has 3 pens and buys 4. How many? Let\'s think step by step and output the final answer after "####".',
              "7", data_source="openai/gsm8k",
              extra_info={"split": "train", "index": 0, "answer": "3 + 4 = <<3+4=7>>7\n#### 7",
                          "question": "Ann has 3 pens and buys 4. How many?"})],
        "verl", ["7"], problems=["Ann has 3 pens and buys 4. How many?"], solutions=1,
    ),
    "Eurus-2 (PRIME), maths read": Shape(
        [verl("What is 1 + 1?\n\nPresent the answer in LaTex format: \\boxed{Your answer}", "2", data_source="numina_cn_k12"),
         verl(ADD + "\n\nWrite Python code to solve the problem. Present the code in \n```python\nYour code\n```\nat the end.",
              json.dumps(IO), ability="code", data_source="taco")],
        "verl", ["2"], problems=["What is 1 + 1?"], dropped={"is code, and maths is read; read it under code": 1},
    ),
    "Eurus-2 (PRIME), code read": Shape(
        [verl("What is 1 + 1?\n\nPresent the answer in LaTex format: \\boxed{Your answer}", "2", data_source="numina_cn_k12"),
         verl(ADD + "\n\nWrite Python code to solve the problem. Present the code in \n```python\nYour code\n```\nat the end.",
              json.dumps(IO), ability="code", data_source="taco")],
        "verl", [None], tests=[2], domain="code", problems=[ADD],
        dropped={"is maths, and code is read; read it under maths": 1},
    ),
    "SYNTHETIC-1 maths": Shape(
        [{"problem_id": "vfm_1", "source": "numina", "task_type": "verifiable_math", "in_source_id": "1",
          "prompt": SYNTHETIC.format("What is 1 + 1?"), "gold_standard_solution": "It is 2.",
          "verification_info": json.dumps({"ground_truth": "2"}), "metadata": "{}"},
         {"problem_id": "llm_1", "source": "stackexchange", "task_type": "llm_judgeable_groundtruth_similarity",
          "in_source_id": "2", "prompt": "Why is the sky blue?", "gold_standard_solution": "It scatters.",
          "verification_info": "{}", "metadata": "{}"}],
        "SYNTHETIC-1", ["2"], solutions=1, problems=["What is 1 + 1?"],
        dropped={"a task that neither an answer nor tests decide": 1},
        used={"answer": "verification_info.ground_truth"},
    ),
    "SYNTHETIC-1 code": Shape(
        [{"source": "apps", "task_type": "verifiable_code", "in_source_id": "1", "prompt": PROGRAM.format(ADD),
          "gold_standard_solution": "```python\nprint(sum(map(int, input().split())))\n```",
          "verification_info": {"language": "python", "test_cases": [
              {"type": "stdin_stdout", "input": "1 2\n", "output": "3\n", "fn_name": None}]},
          "metadata": {"difficulty": "EASY"}, "problem_id": "vfc_1"}],
        "SYNTHETIC-1", [None], tests=[1], solutions=1, domain="code", problems=[ADD],
        used={"tests": "verification_info.test_cases"},
    ),
    "Big-Math": Shape(
        [{"problem": "What is 1 + 1?", "answer": "2", "source": "orca_math",
          "domain": ["Mathematics -> Algebra -> Other"], "llama8b_solve_rate": 0.5}],
        "Big-Math", ["2"],
    ),
    "Omni-MATH": Shape(
        [{"domain": ["Mathematics -> Number Theory"], "difficulty": 7.5, "problem": "What is 1 + 1?",
          "solution": "It is 2.", "answer": "2", "source": "imo_shortlist"}],
        "Omni-MATH", ["2"], solutions=1, more=[{"level": "7.5"}],
    ),
    "AIME as problem and answer": Shape(
        [{"problem_idx": n, "problem": f"What is {n} + 1?", "answer": n + 1, "problem_type": ["Algebra"]} for n in (1, 2)],
        "columns by name", ["2", "3"],
    ),
    "AIME as question and answer": Shape(
        [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in (1, 2, 3)],
        "columns by name", ["2", "3", "4"], used={"problem": "question", "answer": "answer"},
    ),
    "AIME as Problem and Answer": Shape(
        [{"ID": "2024-I-1", "Problem": "What is 1 + 1?", "Solution": "It is 2.", "Answer": 2}],
        "columns by name", ["2"], solutions=1, used={"problem": "Problem", "answer": "Answer", "solution": "Solution"},
    ),
    "AIME with a boxed solution": Shape(
        [{"id": "60", "problem": "What is 203 + 1?", "solution": "\\boxed{204}", "url": "https://example.org/60"}],
        "columns by name", ["204"], used={"answer": "solution"}, solutions=1,
    ),
    "AIME by year": Shape(
        [{"ID": "1983-1", "Year": 1983, "Problem Number": 1, "Question": "What is 1 + 1?", "Answer": "2", "Part": None}],
        "columns by name", ["2"], used={"problem": "Question", "answer": "Answer"},
    ),
    "HMMT": Shape(
        [{"problem_idx": 1, "answer": "\\frac{9 \\sqrt{23}}{23}", "problem": "Compute it.", "problem_type": ["Geometry"]}],
        "columns by name", ["\\frac{9 \\sqrt{23}}{23}"],
    ),
    "MATH-500": Shape(
        [{"problem": "What is 1 + 1?", "solution": "It is $\\boxed{2}$.", "answer": "2", "subject": "Algebra", "level": 3,
          "unique_id": "test/algebra/1.json"}],
        "MATH", ["2"], solutions=1, more=[{"level": "3"}],
    ),
    "MATH": Shape(
        [{"problem": "What is 1 + 1?", "level": "Level 5", "type": "Algebra", "solution": "It is $\\boxed{2}$."}],
        "MATH", ["2"], solutions=1, more=[{"level": "Level 5"}],
    ),
    "GSM8K": Shape(
        [{"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7 pens\n#### 7"}],
        "GSM8K", ["7"], solutions=1,
    ),
    "AMC": Shape(
        [{"id": n, "problem": f"What is {n} + 1?", "answer": n + 1.0, "url": "https://example.org"} for n in (1, 141)],
        "columns by name", ["2", "142"],
    ),
    "Minerva": Shape(
        [{"question": "How heavy is it, in grams?", "answer": "1.5e-3"}], "columns by name", ["1.5e-3"],
    ),
    "OlympiadBench": Shape(
        [{"id": 1, "question": "What is 1 + 1?", "solution": ["It is 2."], "final_answer": ["$2$"], "context": None,
          "image_1": None, "modality": "Text-only", "difficulty": "Competition", "is_multiple_answer": False, "unit": None,
          "answer_type": "Numerical", "error": None, "question_type": "Open-ended", "subfield": "Algebra",
          "subject": "Math", "language": "English"},
         {"id": 2, "question": "Find both.", "solution": ["They are."], "final_answer": ["1", "-1"], "context": "Let x^2 = 1.",
          "image_1": None, "question_type": "Open-ended"},
         {"id": 3, "question": "Prove it.", "solution": ["Clear."], "final_answer": None, "context": None, "image_1": None,
          "question_type": "Theorem proof"},
         {"id": 4, "question": "How long is it?", "solution": ["See there."], "final_answer": ["3"], "context": None,
          "image_1": "a.png", "question_type": "Open-ended"}],
        "OlympiadBench", ["2", "1, -1"], solutions=2, problems=["What is 1 + 1?", "Let x^2 = 1.\n\nFind both."],
        dropped={PROOF: 1, "needs a picture that text does not have": 1},
    ),
    "open-r1/codeforces": Shape(
        [CODEFORCES, CODEFORCES | {"description": "Add again.", "generated_checker": "print(1)", "contest_id": "1851"},
         CODEFORCES | {"description": "Ask.", "interaction_format": "Ask us."},
         CODEFORCES | {"description": "Open.", "input_mode": "file"}],
        "open-r1/codeforces", [None, None], tests=[1, 1], domain="code",
        dropped={"interactive": 1, "reads and writes files": 1},
        more=[{"cpu_s": 2.0, "checker": None, "contest": "1850", "points": 500.0, "sample_tests": False, "level": "800",
               "date": "2023-07-10T14:40:00+00:00"},
              {"checker": "print(1)"}],
    ),
    "TACO": Shape(
        [{"question": ADD, "solutions": json.dumps(["print(sum(map(int, input().split())))"]), "starter_code": "",
          "input_output": json.dumps(IO), "difficulty": "EASY", "raw_tags": "['math']", "name": None,
          "source": "codeforces", "tags": "['Mathematics']", "skill_types": "[]", "url": None,
          "Expected Auxiliary Space": None, "time_limit": "2.0 seconds", "date": None, "picture_num": None,
          "memory_limit": "256.0 megabytes", "Expected Time Complexity": None}],
        "TACO", [None], tests=[2], solutions=1, domain="code", more=[{"cpu_s": 2.0, "level": "EASY"}],
    ),
    "APPS": Shape(
        [{"problem_id": 0, "question": ADD, "solutions": json.dumps(["print(3)"]), "input_output": json.dumps(IO),
          "difficulty": "interview", "url": "https://example.org", "starter_code": ""},
         {"problem_id": 1, "question": "Sum xs and y.", "solutions": "", "difficulty": "introductory", "url": "",
          "input_output": json.dumps({"fn_name": "total", "inputs": [[[1, 2], 3], [[], 1]], "outputs": [[6], [1]]}),
          "starter_code": "def total(xs, y):\n\t"},
         {"problem_id": 2, "question": "Echo lines.", "solutions": "", "difficulty": "introductory", "url": "",
          "input_output": json.dumps({"inputs": [["2", "a", "b"]], "outputs": [["a", "b"]]}), "starter_code": ""},
         {"problem_id": 3, "question": "Count by key.", "solutions": "", "difficulty": "introductory", "url": "",
          "input_output": json.dumps({"inputs": {"0": "1\n", "1": "2\n"}, "outputs": {"1": "4\n", "0": "1\n"}}),
          "starter_code": ""}],
        "APPS", [None] * 4, tests=[2, 2, 1, 2], solutions=1, domain="code",
        more=[{}, {"fn_name": "total", "tests": [{"stdin": "[1, 2]\n3", "expected": "6"}, {"stdin": "[]\n1", "expected": "1"}]},
              {"tests": [{"stdin": "2\na\nb", "expected": "a\nb"}]},
              {"tests": [{"stdin": "1\n", "expected": "1\n"}, {"stdin": "2\n", "expected": "4\n"}]}],
    ),
    "CodeContests": Shape(
        [{"name": "1_A. Sum", "description": ADD, "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
          "private_tests": {"input": ["4 5\n"], "output": ["9\n"]}, "generated_tests": {"input": [], "output": []},
          "source": 2, "difficulty": 7, "solutions": {"language": [2, 3], "solution": ["int main(){}", "print(3)"]},
          "incorrect_solutions": {"language": [], "solution": []}, "cf_contest_id": 1, "cf_index": "A", "cf_points": 500.0,
          "cf_rating": 800, "cf_tags": ["math"], "is_description_translated": False, "untranslated_description": "",
          "time_limit": {"seconds": 1, "nanos": 500000000}, "memory_limit_bytes": 256000000, "input_file": "",
          "output_file": ""}],
        "CodeContests", [None], tests=[2], solutions=1, domain="code",
        more=[{"solution": "print(3)", "cpu_s": 1.5, "contest": "1", "points": 500.0}],
    ),
    "OpenCodeReasoning": Shape(
        [{"id": "a", "input": ADD, "output": "<think>Add.</think>```python\nprint(3)\n```", "source": "taco",
          "license": "apache-2.0", "dataset": "taco", "split": "train", "difficulty": "EASY", "solution": "print(3)"},
         {"id": "b", "input": "-", "output": "<think>Add.</think>ok", "source": "taco", "license": "apache-2.0",
          "dataset": "taco", "split": "train", "difficulty": "EASY", "solution": "print(4)"}],
        "OpenCodeReasoning", [None], solutions=1, domain="code",
        dropped={"the statement is left out of this split; take the split that has it": 1},
    ),
    "DeepCoder": Shape(
        [{"problem": ADD, "solutions": ["print(3)"],
          "tests": json.dumps([{"type": "stdin_stdout", "input": "1 2\n", "output": "3\n", "fn_name": None}])},
         {"problem": "Sum xs and y.", "solutions": [],
          "tests": json.dumps([{"type": "function_call", "fn_name": "total", "input": [[1, 2], 3], "output": [6]}])}],
        "DeepCoder", [None, None], tests=[1, 1], solutions=1, domain="code",
        more=[{"judge_profile": "lcb"}, {"fn_name": "total", "tests": [{"stdin": "[1, 2]\n3", "expected": "6"}]}],
    ),
    "LiveCodeBench stdin": Shape(
        [LIVE | {"question_content": ADD, "starter_code": "", "metadata": "{}",
                 "public_test_cases": json.dumps(STDIN), "private_test_cases": json.dumps(STDIN)}],
        "LiveCodeBench", [None], tests=[2], domain="code", more=[{"judge_profile": "lcb", "date": LIVE["contest_date"]}],
    ),
    "LiveCodeBench functional": Shape(
        [LIVE | {"question_content": "Sum xs and y.", "starter_code": STARTER,
                 "metadata": json.dumps({"func_name": "total"}),
                 "public_test_cases": json.dumps(CALL), "private_test_cases": json.dumps(CALL * 2)}],
        "LiveCodeBench", [None], tests=[3], domain="code",
        problems=[f"Sum xs and y.\n\nStarter code:\n```python\n{STARTER.rstrip()}\n```"],
        more=[{"fn_name": "total", "tests": [{"stdin": "[1, 2]\n3", "expected": "6"}] * 3}],
    ),
    "LiveCodeBench packed": Shape(
        [LIVE | {"question_content": f"{ADD} ({n})", "starter_code": "", "metadata": "{}",
                 "public_test_cases": json.dumps(STDIN), "private_test_cases": private}
         for n, private in enumerate((packed(STDIN * 3), packed(STDIN)[:-8], "AAAA", "no base64!"))],
        "LiveCodeBench", [None], tests=[4], domain="code",
        dropped={"unusable tests: the packed tests are damaged; download the file again": 2,
                 "unusable tests: the packed tests are cut off; download the file again": 1},
    ),
    "messages": Shape(
        [{"messages": [{"role": "system", "content": "Be kind."}, *chat("What is 1 + 1?", "It is \\boxed{2}.")]}],
        "columns by name", ["2"], solutions=1, problems=["What is 1 + 1?"], used={"problem": "messages"},
    ),
    "ShareGPT conversations": Shape(
        [{"id": "a", "conversations": [{"from": "human", "value": "What is 1 + 1?"}, {"from": "gpt", "value": "\\boxed{2}"}]}],
        "columns by name", ["2"], solutions=1, problems=["What is 1 + 1?"],
    ),
    "prompt as a chat": Shape(
        [{"prompt": chat("What is 1 + 1?"), "answer": "2"}], "columns by name", ["2"], problems=["What is 1 + 1?"],
    ),
    "alpaca": Shape(
        [{"instruction": "Add the numbers.", "input": "1 and 1", "output": "It is \\boxed{2}."}],
        "alpaca", ["2"], solutions=1, problems=["Add the numbers.\n\n1 and 1"],
    ),
    "PromptCoT 2.0 concepts": Shape(
        [{"foundational_concepts": ["sums", "shares"], "prompt": ASKED}], "PromptCoT concepts", [],
        dropped={"holds concepts and no problems, and seeds are problems; give the problems that the concepts are from": 1},
    ),
    "PromptCoT 1.0 generation": Shape(
        [{"prompt": ASKED, "completion": GENERATED.format(n)} for n in (1, 2)]
        + [{"prompt": ASKED, "completion": "<!-- BEGIN PROBLEM -->What"}],
        "PromptCoT generation", [None, None], problems=["What is 1 + 1?", "What is 2 + 1?"],
        dropped={"not a completion of a generator: rationale block missing": 1},
        more=[{"concepts": ["sums", "whole numbers"], "rationale": "Start from sums.", "level": "HMMT"}],
    ),
    "PromptCoT 2.0 SFT": Shape(
        [{"prompt": "<|im_start|>user\nWhat is 1 + 1?\nPlease reason step by step, and put your final answer within "
                    "\\boxed{}.<|im_end|>\n<|im_start|>assistant\n", "completion": "<think>Add.</think>It is \\boxed{2}."}],
        "prompt and completion (SFT)", ["2"], solutions=1, problems=["What is 1 + 1?"],
    ),
    "PromptCoT 2.0 DPO": Shape(
        [{"prompt": "<|im_start|>user\nWhat is 1 + 1?<|im_end|>\n<|im_start|>assistant\n<think>\n",
          "chosen": "Add.</think>It is \\boxed{2}.", "rejected": "Guess.</think>It is \\boxed{3}."}],
        "preference pairs (DPO)", ["2"], solutions=1, problems=["What is 1 + 1?"],
    ),
    "PromptCoT 2.0 self-play, maths read": Shape(
        [{"prompt": "What is 1 + 1?", "answer": "2", "input_output": None, "source": "synthetic_math"},
         {"prompt": ADD, "answer": None, "input_output": json.dumps(IO), "source": "synthetic_code"}],
        "columns by name", ["2"], dropped={"is code, and maths is read; read it under code": 1},
    ),
    "CHAMP": Shape(
        [{"identifier": "P_1", "_raw_text": "What is @@1 + 1@@?", "_text": "What is 1 + 1?", "category": "Algebra",
          "solution": {"steps": [{"_text": "Add.", "_raw_text": "Add.", "ch_idxs": [0]}, {"_text": "It is 2."}]},
          "_answer": "2", "_raw_answer": "2", "ch_list": ["C_sum"], "concepts": ["sums"]}],
        "CHAMP", ["2"], solutions=1, more=[{"concepts": ["sums"], "solution": "Add.\nIt is 2."}],
    ),
    "reasoning-gym": Shape(
        [{"question": "What is 1 + 1?", "answer": "2", "metadata": {"source_dataset": "basic_arithmetic", "source_index": 0}}],
        "reasoning-gym", ["2"],
    ),
    "our own columns": Shape(
        [{"problem": "What is 1 + 1?", "answer": "2", "solution": "Add.", "concepts": ["sums"], "rationale": "Take 1.",
          "level": "easy", "domain": "maths"}],
        "columns by name", ["2"], solutions=1, more=[{"concepts": ["sums"], "rationale": "Take 1.", "level": "easy"}],
    ),
}  # fmt: skip
