# ruff: noqa: E501
"""The program that a completion holds, whatever its fences look like; and in linear time, whatever it holds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sandbox.extract import extract_program

CODE = "print(input())"
LINES = "def f():\n    return 1\nprint(f())"
DOCSTRING = 'def f():\n    """Doubles.\n\n```\nf(1)\n```\n    """\n    return 1'
INDENTED_DOCSTRING = 'def f():\n    """Doubles.\n\n    ```python\n    f(1)\n    ```\n    """\n    return 1'


def fenced(says: str, code: str = CODE, fence: str = "```") -> str:
    return f"{fence}{says}\n{code}\n{fence}"


def behind(mark: str, text: str) -> str:
    return "\n".join(mark + line for line in text.split("\n"))


SAID = ["python", "python3", "py", "py3", "pypy3", "pypy", "Python", "PYTHON3", "python3.11", "pypy3.10", " python", "python ",
        "{python}", "{.python}", "{ .python .numberLines }", 'python title="a.py"', "python title=a.py linenums=1", "python:a.py",
        "python,linenos", "python {1,3}", "python{1,3}", "Python 3", "python3 -u", "ipython", "cpython", ""]  # fmt: skip
OTHERS = ["cpp", "c++", "text", "json", "pycon", "python-repl", "pythonista", "pyx", "output", "bash", "python2c"]
CASES: list[tuple[str, str, str | None]] = [
    *[(f"says {says!r}", fenced(says), CODE) for says in SAID],
    *[(f"tildes, says {says!r}", fenced(says, fence="~~~"), CODE) for says in ("python", "", "py3")],
    *[(f"says {says!r}", fenced(says), None) for says in OTHERS],
    ("four backticks", fenced("python", fence="````"), CODE),
    ("twenty backticks", fenced("python", fence="`" * 20), CODE),
    ("four backticks around three in a string", fenced("python", "print('''\n```\n''')", "````"), "print('''\n```\n''')"),
    ("all of the answer in a block of Markdown", fenced("markdown", "So:\n" + fenced("python"), "````"), CODE),
    ("all of it in Markdown, of as many backticks", fenced("markdown", "So:\n" + fenced("python")), CODE),
    ("backticks in a docstring", fenced("python", DOCSTRING), DOCSTRING),
    ("a block in a docstring", fenced("python", INDENTED_DOCSTRING), INDENTED_DOCSTRING),
    ("backticks in a docstring of apostrophes", fenced("", DOCSTRING.replace('"""', "'''")), DOCSTRING.replace('"""', "'''")),
    ("backticks in a string", fenced("python", "print('```')\nprint(\"```python\")"), "print('```')\nprint(\"```python\")"),
    ("backticks in a comment", fenced("python", f"# ```\n{CODE}  # not ```this```"), f"# ```\n{CODE}  # not ```this```"),
    ("an escaped quote in a docstring", fenced("python", 'x = """\\"""\n```\n"""\nprint(x)'), 'x = """\\"""\n```\n"""\nprint(x)'),
    ("an apostrophe in a comment", fenced("python", f"# it's\n{CODE}"), f"# it's\n{CODE}"),
    ("an apostrophe in a string", fenced("python", 'print("it\'s")'), 'print("it\'s")'),
    ("a raw string that ends in a backslash", fenced("python", "print(r'a\\b')"), "print(r'a\\b')"),
    ("tildes in a block of backticks", fenced("python", f"~~~\n{CODE}"), f"~~~\n{CODE}"),
    ("backticks in a block of tildes", fenced("python", "x = '''\n```\n'''\nprint(x)", "~~~"), "x = '''\n```\n'''\nprint(x)"),
    ("complements of complements", fenced("python", "print(~~~3)", "~~~"), "print(~~~3)"),
    ("a list item", "1. So:\n\n" + behind("   ", fenced("python", LINES)), LINES),
    ("a deep list item", "- a\n  - b\n\n" + behind("        ", fenced("python", LINES)), LINES),
    ("on the line of the item", "1. ```python\n" + behind("   ", LINES + "\n```"), LINES),
    ("on the line of the item, not indented", "- " + fenced("python", LINES), LINES),
    ("a tab before it", behind("\t", fenced("python", LINES)), LINES),
    ("a quote", behind("> ", fenced("python", LINES)), LINES),
    ("a quote in a quote", behind("> > ", fenced("python", LINES)), LINES),
    ("a comment in the first line, indented", behind("    ", fenced("python", "# f\n" + LINES)), "# f\n" + LINES),
    ("behind a word", f"Here: {fenced('python')}", CODE),
    ("its end behind the last statement", f"```python\n{CODE}``` That is all.", CODE),
    ("lines of Windows", fenced("python", LINES).replace("\n", "\r\n"), LINES.replace("\n", "\r\n")),
    ("the last of two", fenced("python", "1") + "\nor\n" + fenced("py"), CODE),
    ("Python before what says nothing", fenced("python") + "\n" + fenced("", "print('sample')"), CODE),
    ("Python before another language", fenced("python") + "\nOutput:\n" + fenced("text", "print(3)"), CODE),
    ("a sample output behind it", fenced("") + "\nOutput:\n" + fenced("", "3"), CODE),
    ("samples before it", fenced("", "1 2") + "\n" + fenced("", "3") + "\n" + fenced(""), CODE),
    ("samples only", "Input\n" + fenced("", "1 2\nfor me") + "\nOutput\n" + fenced("", "if only 3"), None),
    ("one that the next one's fence ends", f"```python\n1\n{fenced('python')}", CODE),
    ("another language that it ends", f"```text\nfoo\n{fenced('python')}", CODE),
    ("a stray fence before it", f"````\n{fenced('python')}", CODE),
    ("broken Python before it", fenced("python", "x = '''") + "\n" + fenced("python"), CODE),
    ("a comment of JavaScript before it", fenced("js", "// x") + "\n" + fenced("python"), CODE),
    ("never closed", f"```python\n{CODE}", None),
    ("never closed, after one that is", fenced("python") + "\n```python\nx", CODE),
    ("closed by too few", f"````python\n{CODE}\n```", None),
    ("closed by the other sign", f"```python\n{CODE}\n~~~", None),
    ("in the thoughts only", f"<think>{fenced('python')}</think>Done.", None),
    ("thoughts that do not end", f"<think>{fenced('python')}", None),
    ("second thoughts that do not end", f"<think>a</think>{fenced('python')}<think>{fenced('python', '2')}", CODE),
    ("empty", fenced("python", " \n"), None),
    ("nothing", "", None),
    ("no fence", CODE, None),
    ("an inline span", f"```{CODE}```", None),
    ("a sentence about fences", "Put it between ```python and ``` signs.", None),
]  # fmt: skip


@pytest.mark.parametrize(("completion", "program"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_program(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


HOSTILE: dict[str, Callable[[int], str]] = {
    "backticks": lambda n: "`" * n,
    "fences": lambda n: "```python\n" * n,
    "nameless fences": lambda n: "```\n" * n,
    "fences of both signs": lambda n: "~~~\n```\n" * n,
    "fences, ever shorter": lambda n: "".join("`" * k + "python\n" for k in range(int((2 * n) ** 0.5), 2, -1)),
    "fences and open strings": lambda n: "```python\n'''" * n,
    "open strings of both quotes": lambda n: "```python\n\"\"\"\n'''\n" * n,
    "other languages": lambda n: "````text\n```python\n" * n,
    "Markdown": lambda n: "```markdown\n" * n,
    "marks of quotes": lambda n: "> " * n + "```python",
    "marks of lists": lambda n: "1. " * n,
    "quotes": lambda n: "```python\n" + "\"'" * n,
    "backslashes": lambda n: "```python\n'''" + "\\" * n + "'''\n```",
    "blanks": lambda n: "```python\n" + " " * n + "\n```",
    "thoughts": lambda n: "<think>" * n + "</think>" * n,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_eight_times_the_text_is_no_more_than_thirty_times_the_work(make: Callable[[int], str]) -> None:
    """Sixty-four times and more where it is quadratic."""

    def seconds(n: int) -> float:
        text = make(n)
        started = time.process_time()
        extract_program(text)
        return time.process_time() - started

    small = min(seconds(4_000) for _ in range(3))
    large = min(seconds(32_000) for _ in range(2))
    assert large < 30 * max(small, 0.001)
