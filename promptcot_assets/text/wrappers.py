"""What stands around a problem in published prompts: chat turns and standing instructions, and how they come off."""

from __future__ import annotations

import re

# How chat templates mark a user's turn: (what opens it, what closes it). A turn that never closes runs to the end.
_USER_TURNS = [
    (r"<\|im_start\|>user\n", r"<\|im_end\|>"),  # ChatML: Qwen and many others
    (r"<｜User｜>", r"<｜Assistant｜>|<｜end▁of▁sentence｜>"),  # DeepSeek
    (r"<\|start_header_id\|>user<\|end_header_id\|>", r"<\|eot_id\|>"),  # Llama 3
    (r"<\|start\|>user<\|message\|>", r"<\|end\|>"),  # gpt-oss (harmony)
    (r"<\|user\|>\n?", r"<\|end\|>|<\|assistant\|>|</s>"),  # phi, Zephyr
    (r"<start_of_turn>user\n", r"<end_of_turn>"),  # Gemma
    (r"\[INST\]", r"\[/INST\]"),  # Llama 2, Mistral
]
_USER_TURN = re.compile("|".join(f"(?:{opening})(.*?)(?:{closing}|\\Z)" for opening, closing in _USER_TURNS), re.DOTALL)

# Standing instructions around a statement, in the wording of the released evaluation files, of LiveCodeBench, and of
# sets that are published as prompts: DAPO, Skywork-OR1, verl's GSM8K, Eurus-2, SYNTHETIC-1, OpenMathReasoning, alpaca.
_BOXED = (
    r"[PpLl](?i:lease|et's|et us)\s+(?i:reason|think)\s+step\s+by\s+step[^\n]{0,80}?\\boxed\s*\{[^\n]{0,10}\}+\s*\.?"
)
_HEAD = re.compile(
    rf"\s*(?:{_BOXED}"
    r"|You will be given a question \(problem specification\) and will generate a correct Python program that matches"
    r" the specification and passes all tests\.(?:\s+You will NOT return anything except for the program\.?)?"
    r"|Solve the following math problem step by step\. The last line of your response should be of the form Answer:"
    r"[^\n]{0,160}"
    r"|Solve the following math problem\b(?:(?!\n\s*Problem\s*:).){0,600}\n\s*Problem\s*:"
    r"|Solve the following math problem\. Make sure to put the answer \(and only answer\) inside \\boxed\{\}\."
    r"|Solve the following coding problem using the programming language python:"
    r"|Below is an instruction that describes a task[^\n]{0,200}\s+###\s*Instruction\s*:"
    r"|(?:###\s*)?(?:Question|Problem|Instruction)\s*:)\s*",
    re.DOTALL,
)
_INPUT = re.compile(r"\n\s*###\s*Input\s*:\s*\n")  # of alpaca: what the instruction is about
# (a literal of the instruction, how far before it the instruction may begin, the instruction to the end of the text):
# finding the literal first keeps bare statements cheap, millions of which pass through here
_TAILS = [
    ("\\boxed", 160, re.compile(rf"{_BOXED}\s*\Z")),
    (
        "Read the inputs from stdin",
        20,
        re.compile(
            r"(?:###\s*Format:\s*)?Read the inputs from stdin solve the problem and write the answer to stdout"
            r" \(do not directly test on the sample inputs\).{0,300}?# YOUR CODE HERE\s*```\s*\Z",
            re.DOTALL,
        ),
    ),
    ('after "Answer:"', 60, re.compile(r"Remember to put your answer on its own line after \"Answer:\"\.?\s*\Z")),
    ('after "####"', 120, re.compile(r"Let's think step by step and output the final answer after \"####\"\.?\s*\Z")),
    ("LaTex format", 30, re.compile(r"Present the answer in LaTex format:\s*\\boxed\{Your answer\}\s*\Z", re.I)),
    (
        "Write Python code to solve the problem",
        1,
        re.compile(
            r"Write Python code to solve the problem\. Present the code in\s*```python\s*Your code\s*```\s*at the end"
            r".{0,120}\Z",
            re.DOTALL,
        ),
    ),
    (
        "return the code",
        200,
        re.compile(r"(?:The input will be [^\n]{0,120}\s*)?Now solve the problem and return the code\.?\s*\Z"),
    ),
    ("Response:", 8, re.compile(r"\n\s*###\s*Response:.{0,60}\Z", re.DOTALL)),
    ("Answer:", 8, re.compile(r"\n\s*(?:###\s*)?Answer:\s*\Z")),
    ("Solution:", 1, re.compile(r"\nSolution:\s*\Z")),  # of this project's own domains (domains/procedural.py)
    ("use the provided format", 20, re.compile(r"###\s*Answer:\s*\(use the provided format with backticks\)\s*\Z")),
]

LAYERS = 32  # of wrappers that come off; each is a pass over the text, which may be millions of characters


def strip_wrapper(text: str) -> str:
    """The bare statement: the last user turn of a chat-wrapped prompt, without the standing instructions around it.

    Text without a wrapper comes back as it is, less its outer white space. Idempotent, but for more than LAYERS
    wrappers around each other, which nobody writes.
    """
    for _ in range(LAYERS):
        if (bare := _without_instructions(_last_user_turn(text)).strip()) == text:
            break
        text = bare
    return text


def _without_instructions(text: str) -> str:
    if head := _HEAD.match(text):
        text = text[head.end() :]
        if "Instruction" in head[0]:
            text = _INPUT.sub("\n\n", text, count=1)
    for literal, reach, instruction in _TAILS:
        place = text.rfind(literal)
        if place >= 0 and (tail := instruction.search(text, max(0, place - reach))):
            text = text[: tail.start()].rstrip()
    return text


def _last_user_turn(text: str) -> str:
    if not ("<|" in text or "<｜" in text or "<start" in text or "[INST]" in text):
        return text
    for match in _USER_TURN.finditer(text):
        text = next(turn for turn in match.groups() if turn is not None)
    return text
