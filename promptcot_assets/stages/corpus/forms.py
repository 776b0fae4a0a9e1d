"""The shapes of public problem sets, one declaration each: which column is what, and how the shape is recognised.

Belongs here: data. A form names, for each of our roles, the columns that may hold it (the first that has a value in a
row wins; of `tests`, all of them), and the evidence by which its files are known: what the *values* of named columns
look like (values.LOOKS). Shared column names prove nothing: `solution` is an answer in one set and an essay in the
next. Does not belong here: how a value is spelled (values.py), and any code for a single set.

The first form whose evidence holds in a file reads it. docs/real_seeds.md has the table of them.

Roles of a row:

| role | what it becomes |
|---|---|
| `problem` | the statement; where it is a chat, its last user's turn, and the model's turn after it is the solution |
| `context`, `details`, `input_format`, `output_format`, `examples`, `note`, `starter` | parts of the statement |
| `answer`, `solution`, `tests`, `fn_name`, `concepts`, `rationale`, `level` | as they are called |
| `truth` | the answer or the tests, whichever its value looks like |
| `generated`, `asked_for` | a generator's completion with both blocks, and the prompt with concepts and level |
| `kind` | whether the row is maths or code, in a file of both |
| `cpu_s`, `checker`, `contest`, `points`, `date`, `complete` | how a program is judged, and in which contest |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Paths = str | tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """One shape. `evidence`: column -> what its values look like; all must hold for the file to be of this form.

    only, never: column -> (values, why a row falls that has none of them, or one of them); where the column has no
    value the row stays. absent: column -> why a row falls that has a value there. refused: why no row can be read.
    """

    name: str
    columns: Mapping[str, Paths]
    evidence: Mapping[str, str]
    only: Mapping[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)
    never: Mapping[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    needs_answer: str = ""  # why a row without an answer falls; empty: it stays
    judge_profile: Literal["strict", "lcb"] | None = None
    domain: Literal["maths", "code"] | None = None  # of every row; null: what the row says (`kind`, tests)
    refused: str = ""

    @property
    def looked_at(self) -> set[str]:
        """The columns by which a row may fall."""
        return {*self.only, *self.never, *self.absent}

    def paths(self, role: str) -> tuple[str, ...]:
        named = self.columns.get(role, ())
        return (named,) if isinstance(named, str) else named


PROBLEM = ("problem", "question")
VALID = (("yes", "true", "valid", True, 1), "its source says that the problem or the solution is not valid")
NO_PROOF = (("proof", "theorem proof"), "a proof is asked for, which has no answer to grade")
CHOICES = "has its choices in a column of their own; write them into the statement, and the right one as the answer"
PICTURE = "needs a picture that text does not have"
VERL: dict[str, Paths] = {"problem": "prompt", "truth": "reward_model.ground_truth", "kind": ("ability", "data_source")}

CODE_FORMS = (
    Form(
        "LiveCodeBench",
        {"problem": "question_content", "tests": ("public_test_cases", "private_test_cases"), "starter": "starter_code",
         "fn_name": "metadata.func_name", "level": "difficulty", "date": "contest_date"},
        {"question_content": "text", "public_test_cases": "tests"},
        judge_profile="lcb",
    ),
    Form(
        "open-r1/codeforces",
        {"problem": "description", "input_format": "input_format", "output_format": "output_format",
         "examples": "examples", "note": "note", "tests": "official_tests", "complete": "official_tests_complete",
         "checker": "generated_checker", "cpu_s": "time_limit", "level": "rating", "contest": "contest_id",
         "points": "points", "date": "contest_start"},
        {"description": "text", "input_format": "text", "output_format": "text", "examples": "tests"},
        only={"input_mode": (("stdio",), "reads and writes files")},
        absent={"interaction_format": "interactive"},
    ),
    Form(
        "CodeContests",
        {"problem": "description", "tests": ("public_tests", "private_tests", "generated_tests"),
         "solution": "solutions", "cpu_s": "time_limit", "contest": "cf_contest_id", "points": "cf_points"},
        {"description": "text", "public_tests": "tests"},
        absent={"input_file": "reads and writes files", "output_file": "reads and writes files"},
    ),
    Form(
        "TACO",
        {"problem": "question", "tests": "input_output", "starter": "starter_code", "solution": "solutions",
         "level": "difficulty", "cpu_s": "time_limit"},
        {"question": "text", "input_output": "tests", "raw_tags": "anything"},
    ),
    Form(
        "APPS",
        {"problem": "question", "tests": "input_output", "starter": "starter_code", "solution": "solutions",
         "level": "difficulty"},
        {"question": "text", "input_output": "tests"},
    ),
    Form(
        "DeepCoder",
        {"problem": "problem", "tests": "tests", "starter": "starter_code", "fn_name": "metadata.func_name",
         "solution": "solutions"},
        {"problem": "text", "tests": "JSON of tests", "answer": "nothing"},
        judge_profile="lcb",
    ),
    Form(
        "OpenCodeReasoning",
        {"problem": ("input", "question"), "solution": "solution", "level": "difficulty"},
        {"output": "think", "solution": "text", "input": "text"},
        never={"input": (("-",), "the statement is left out of this split; take the split that has it")},
    ),
    Form(
        "OpenCodeReasoning-2",
        {"problem": "question", "solution": "solution", "level": "difficulty"},
        {"r1_generation": "think", "question": "text"},
        never={"question": (("-",), "the statement is left out of this set; join it from its source by question_id")},
    ),
)  # fmt: skip

REWARD_FORMS = (
    Form(
        "SYNTHETIC-1",
        {"problem": ("problem_statement", "problem", "prompt"), "answer": "verification_info.ground_truth",
         "tests": "verification_info.test_cases", "solution": "gold_standard_solution", "kind": "task_type"},
        {"verification_info": "object"},
        only={"task_type": (("verifiable_math", "verifiable_code"), "a task that neither an answer nor tests decide")},
    ),
    Form("Skywork-OR1", VERL, {"prompt": "chat", "reward_model.ground_truth": "JSON list"}),
    Form(
        "DAPO-Math-17k (processed)",
        {"problem": "prompt", "answer": "solution"},
        {"prompt": "text", "solution": "short text", "reward_model.ground_truth": "answer"},
    ),
    Form("DAPO-Math-17k", VERL, {"prompt": "DAPO's instruction", "reward_model.ground_truth": "answer"}),
    Form(
        "verl",
        VERL | {"solution": "extra_info.answer"},
        {"prompt": "statement", "reward_model.ground_truth": "anything"},
    ),
)  # fmt: skip

MATHS_FORMS = (
    Form(
        "NuminaMath-1.5, OpenR1-Math",
        {"problem": "problem", "answer": "answer", "solution": "solution"},
        {"problem": "text", "solution": "text", "question_type": "short text"},
        only={"problem_is_valid": VALID, "solution_is_valid": VALID},
        never={"question_type": NO_PROOF, "problem_type": NO_PROOF},
    ),
    Form(
        "NuminaMath-CoT",
        {"problem": "problem", "solution": "solution"},
        {"problem": "text", "solution": "text", "messages": "chat"},
    ),
    Form(
        "OpenMathReasoning, OpenMathInstruct",
        {"problem": PROBLEM, "answer": "expected_answer", "solution": "generated_solution"},
        {"expected_answer": "answer", "generated_solution": "text"},
        only={"is_correct": ((True, "true"), "its source says that the solution is wrong")},
    ),
    Form(
        "Big-Math",
        {"problem": "problem", "answer": "answer"},
        {"problem": "text", "answer": "answer", "llama8b_solve_rate": "number"},
    ),
    Form(
        "Omni-MATH",
        {"problem": "problem", "answer": "answer", "solution": "solution", "level": "difficulty"},
        {"problem": "text", "answer": "answer", "domain": "list of texts", "difficulty": "number"},
    ),
    Form(
        "OlympiadBench",
        {"problem": "question", "context": "context", "answer": "final_answer", "solution": "solution",
         "level": "difficulty"},
        {"question": "text", "solution": "list of texts", "final_answer": "answer"},
        never={"question_type": NO_PROOF},
        absent={"image_1": PICTURE},
        needs_answer="a proof is asked for, which has no answer to grade",
    ),
    Form(
        "CHAMP",
        {"problem": "_text", "answer": "_answer", "solution": "solution", "concepts": "concepts",
         "rationale": ("rationale", "hints")},
        {"_text": "text", "_answer": "answer", "solution.steps": "anything"},
    ),
    Form(
        "MATH",
        {"problem": "problem", "answer": "answer", "solution": "solution", "level": "level"},
        {"problem": "text", "solution": "boxed", "level": "level"},
    ),
    Form("GSM8K", {"problem": "question", "solution": "answer"}, {"question": "text", "answer": "####"}),
    Form(
        "reasoning-gym",
        {"problem": "question", "answer": "answer", "solution": "metadata.answer_cot"},
        {"question": "text", "answer": "answer", "metadata.source_dataset": "text"},
    ),
)  # fmt: skip

AUTHORS_FORMS = (
    Form(
        "PromptCoT generation",
        {"generated": "completion", "asked_for": "prompt", "concepts": "foundational_concepts"},
        {"completion": "blocks"},
    ),
    Form(
        "PromptCoT concepts",
        {"concepts": "foundational_concepts"},
        {"foundational_concepts": "list of texts", "problem|question": "nothing"},
        refused="holds concepts and no problems, and seeds are problems; give the problems that the concepts are from",
    ),
    Form(
        "PromptCoT prompts",
        {"concepts": "prompt"},
        {"prompt": "prompt of a generator", "problem|question|completion": "nothing"},
        refused="holds prompts for the generator and no problems; give its completions too, or the problems themselves",
    ),
    Form(
        "preference pairs (DPO)",
        {"problem": "prompt", "solution": "chosen", "answer": "answer", "kind": ("domain", "source")},
        {"chosen": "statement", "rejected": "statement", "prompt": "statement"},
    ),
    Form(
        "preference pairs (chats)",
        {"problem": "chosen", "answer": "answer", "kind": ("domain", "source")},
        {"chosen": "chat", "rejected": "chat"},
    ),
    Form(
        "prompt and completion (SFT)",
        {"problem": "prompt", "solution": ("completion", "response", "completions"), "answer": "answer",
         "tests": ("tests", "input_output"), "kind": ("domain", "source")},
        {"prompt": "statement", "completion|response|completions": "statement"},
    ),
    Form(
        "alpaca",
        {"problem": "instruction", "details": "input", "solution": "output", "answer": "answer"},
        {"instruction": "text", "output": "text"},
    ),
)  # fmt: skip

STATEMENTS = (*PROBLEM, "prompt", "statement", "problem_statement", "problem_description", "question_content",
              "problem_text", "query", "messages", "conversations", "description", "instruction", "text")  # fmt: skip
ANSWERS = ("answer", "final_answer", "expected_answer", "reference_answer", "ground_truth", "gold_answer", "gt_answer",
           "gt", "correct_answer", "label", "target", "gold")  # fmt: skip
BY_NAME = Form(
    "columns by name",
    {"problem": STATEMENTS, "answer": ANSWERS,
     "solution": ("solution", "reference_solution", "generated_solution", "gold_standard_solution", "response",
                  "completion", "solutions", "explanation"),
     "tests": ("tests", "input_output", "test_cases"), "fn_name": ("fn_name", "entry_point"),
     "starter": "starter_code", "concepts": ("concepts", "foundational_concepts"), "rationale": "rationale",
     "level": ("level", "difficulty"),
     "kind": ("domain", "ability", "task_type", "source", "data_source"), "cpu_s": "time_limit",
     "contest": "contest", "points": "points", "date": ("contest_date", "date")},
    {"|".join(STATEMENTS): "statement"},
    only={"problem_is_valid": VALID, "solution_is_valid": VALID},
    absent={"choices": CHOICES, "options": CHOICES},
)  # fmt: skip

# what people add to a public shape, under our own names
OURS = ("answer", "concepts", "rationale", "level")


def _annotated(form: Form, domain: Literal["maths", "code"] | None = None) -> Form:
    taken = {path for role in form.columns for path in form.paths(role)}
    added: dict[str, Paths] = {name: name for name in OURS if name not in taken}
    return replace(form, domain=domain or form.domain, columns={**added, **form.columns})


FORMS: tuple[Form, ...] = (
    *(_annotated(form, "code") for form in CODE_FORMS),
    *(_annotated(form) for form in REWARD_FORMS),
    *AUTHORS_FORMS,
    *(_annotated(form, "maths") for form in MATHS_FORMS),
    BY_NAME,
)
