"""Teachers of a profile, really asked: `python -m tests.assets.teacher_chain HOME MODELS`, its own process.

The graph follows PROMPTCOT_PROFILE at import, so the test that reads the results runs this as a child. It makes five
tiny models with chat templates of five kinds, teaches each its one answer to each kind of question, and materializes
what they feed: annotations and triples, votes, tests, traces, zero-shot difficulty, and a student that is trained and
asked through its own template.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NUMBERS = range(1, 9)
CONCEPTS = {"one": ["ratios", "sums"], "two": ["shares", "totals"]}
SEEDS = [
    {"problem": f"Two numbers in ratio 1:{n} have sum {1 + n}. Find the larger.", "answer": str(n), "level": "AIME"}
    for n in NUMBERS
]
MATHS = [f"A rope of {n} m is cut in two. Find the length of one piece." for n in NUMBERS]
CODE = [f"Print the number of sides of a square. The input is {n}. The output is one number." for n in NUMBERS]
BOX, PROGRAM = "\\boxed{4}", "```python\nprint(4)\n```"
TEST = '```json\n{"input": "1", "output": "4"}\n```'

PROFILE = """
corpus: {{files: {{maths: [{folder}/seeds.jsonl], code: [{folder}/code.jsonl]}}, held_out_share: 0.3}}
teachers:
  one: {{model: {{hub_id: {folder}/llama}}, chat: {{}}}}
  two: {{model: {{hub_id: {folder}/chatml}}, chat: {{system: Be brief.}}}}
  voter: {{model: {{hub_id: {folder}/thinking}}, chat: {{}}, engine: {{batch_size: 32}}}}
  tester: {{model: {{hub_id: {folder}/switch}}, chat: {{arguments: {{enable_thinking: false}}}}}}
  tracer: {{model: {{hub_id: {folder}/harmony}}, chat: {{arguments: {{reasoning_effort: medium}}}}}}
  served:
    model: {{hub_id: {folder}/thinking}}
    chat: {{}}
    engine: {{name: server, server: {{urls: ["http://127.0.0.1:9/v1"], model: thinking}}}}
annotation:
  concepts: 2
  annotators:
    - {{teacher: one, sampling: {{temperature: 0, max_new_tokens: 40}}}}
    - {{teacher: two, sampling: {{temperature: 0, max_new_tokens: 40}}}}
base: {{scratch: {{hidden_size: 32, intermediate_size: 64, layers: 1, heads: 2, vocab_size: 400}}}}
synthesis: {{concept_sets: {{maths: 2, code: 2}}}}
labels:
  voter: {{teacher: voter, sampling: {{temperature: 0.6, max_new_tokens: 24}}}}
  test_writer: {{teacher: tester, sampling: {{temperature: 0.6, max_new_tokens: 40}}}}
  votes: 4
  min_votes: 3
  tests_per_problem: 2
  test_programs: 3
  mutants: 0
distillation: {{teacher: {{teacher: tracer, sampling: {{temperature: 1.0, max_new_tokens: 40}}}}}}
zero_shot:
  problems: 5
  solver: {{teacher: voter, sampling: {{temperature: 0, max_new_tokens: 24}}}}
  reference: {{teacher: tracer, sampling: {{temperature: 0, max_new_tokens: 40}}}}
students:
  untaught: {{base: {{hub_id: {folder}/student}}, chat: {{}}, taught: false}}
  thinker:
    base: {{hub_id: {folder}/student}}
    chat: {{}}
    replay_seed_solutions: false
    sft:
      arguments: {{learning_rate: 6.0e-3, per_device_train_batch_size: 4, num_train_epochs: 30, max_length: 512}}
self_play: {{pool_share: 0.5, rollouts: 2, sampling: {{temperature: 1.0, max_new_tokens: 24}}}}
engine: {{name: transformers, batch_size: 64}}
sandbox: {{workers: 1, cpu_s: 1.0, wall_s: 4.0, memory_mb: 256}}
"""


def make_models(folder: Path) -> None:
    """Each teacher reads what it will be asked, and learns to write its one answer to each kind of question."""
    from promptcot_assets.domains import domain_named
    from promptcot_assets.inference.chat import ChatTemplate
    from promptcot_assets.settings.profile import Chat
    from promptcot_assets.stages.corpus.annotation import CONCEPT_PROMPT, RATIONALE_PROMPT
    from promptcot_assets.stages.labels.written_tests import writing_prompt
    from tests.chat_models import make_chat_model, teach_answers
    from tests.tiny_models import TinySettings

    problems = [row["problem"] for row in SEEDS]
    solve = {name: [domain_named(name).solve_prompt(one) for one in texts]
             for name, texts in (("maths", MATHS), ("code", CODE))}  # fmt: skip
    concepts = [CONCEPT_PROMPT.format(kind="mathematics", problem=one, count=2) for one in problems]
    tests = [writing_prompt(one, call) for one in CODE for call in range(2)]
    texts = [*concepts, *tests, *solve["maths"], *solve["code"], BOX, PROGRAM, TEST]

    def rationales(names: list[str]) -> list[str]:
        listed = f"1. {names[0]}\n2. {names[1]}"
        return [
            RATIONALE_PROMPT.format(kind="mathematics", concepts=listed, level="AIME", problem=one) for one in problems
        ]

    def made(template: str, chat: Chat, asked: Sequence[tuple[Sequence[str], str]], steps: int) -> None:
        settings = TinySettings(vocab_size=700, max_position=1024, hidden_size=64, intermediate_size=128)
        model = make_chat_model(folder / template, template, settings, texts)
        turn: Callable[[str], Any] = ChatTemplate(model, chat).turn
        dialogues = [(turn(text).prompt, answer) for prompts, answer in asked for text in prompts]
        teach_answers(model, dialogues[::3] + dialogues[1::3] + dialogues[2::3], steps)

    def listed(names: list[str]) -> str:
        return f"```python\n{json.dumps(names)}\n```"

    final = "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>"
    made(
        "llama", Chat(), [(concepts, listed(CONCEPTS["one"])), (rationales(CONCEPTS["one"]), "Begin with ratios.")], 90
    )
    made("chatml", Chat(system="Be brief."),
         [(concepts, listed(CONCEPTS["two"])), (rationales(CONCEPTS["two"]), "Share a total.")], 90)  # fmt: skip
    made("thinking", Chat(), [(solve["maths"], f"so\n</think>\n\n{BOX}")], 40)
    made("switch", Chat(arguments={"enable_thinking": False}), [(solve["code"], PROGRAM), (tests, TEST)], 70)
    made("harmony", Chat(), [(solve["maths"], final + BOX), (solve["code"], final + PROGRAM)], 70)
    make_chat_model(folder / "student", "thinking", TinySettings(vocab_size=700, max_position=512), texts)


def prepare(folder: Path) -> Path:
    """Seeds, models and the profile in `folder`; the profile's path."""
    folder.mkdir(parents=True)
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SEEDS))
    known = {"problem": CODE[0], "concepts": ["printing", "squares"], "rationale": "Ask for sides.", "level": "easy"}
    (folder / "code.jsonl").write_text(json.dumps(known) + "\n")
    make_models(folder)
    (folder / "teachers.yaml").write_text(PROFILE.format(folder=folder))
    return folder / "teachers.yaml"


def materialize_all(home: Path) -> None:
    import dagster as dg

    from promptcot_assets.assets.partitions import BATCHES, FIRST_BATCH
    from promptcot_assets.definitions import build_definitions
    from promptcot_assets.lake.ids import content_id
    from tests.small_home import Home

    definitions = build_definitions(lake_home=str(home))
    dg.Definitions.validate_loadable(definitions)
    job = definitions.resolve_implicit_global_asset_job_def()
    lake = Home(home)
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(BATCHES.name), [FIRST_BATCH])

        def make(*assets: str, partition: str | None = None) -> None:
            print("make", *assets, partition or "", flush=True)
            done = job.execute_in_process(
                instance=instance, partition_key=partition, asset_selection=[dg.AssetKey(one) for one in assets]
            )
            assert done.success

        for name in ("one", "two", "voter", "tester", "tracer", "served"):
            make("teacher_model", partition=name)
        for name in ("one", "two"):
            make("seed_annotations", partition=name)
        make("seed_problems", "dropped_seed_rows", "concept_corpus", "seed_triples", "base_model")
        problems = [
            {"problem_id": content_id(domain, text), "domain": domain, "problem": text, "batch": FIRST_BATCH}
            for domain, texts in (("maths", MATHS), ("code", CODE))
            for text in texts
        ]
        lake.commit("problems", problems, partition=FIRST_BATCH)
        for name in (
            "math_votes",
            "math_answers",
            "proposed_tests",
            "candidate_programs",
            "code_tests",
            "teacher_traces",
            "zero_shot_difficulty",
        ):
            make(name, partition=FIRST_BATCH)
        for name in ("student_base", "sft_examples", "sft_model", "rollouts", "verdicts"):
            make(name, partition="thinker")
        for name in ("student_base", "sft_model"):
            make(name, partition="untaught")


if __name__ == "__main__":
    home, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if "PROMPTCOT_PROFILE" not in os.environ:  # the graph follows it at import: once more, as the child of a profile
        os.environ["PROMPTCOT_PROFILE"] = str(prepare(folder))
        os.environ["PROMPTCOT_HOME"] = str(home)
        os.execv(sys.executable, [sys.executable, "-m", "tests.assets.teacher_chain", *sys.argv[1:]])
    materialize_all(home)
