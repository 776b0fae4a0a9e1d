"""Text that a model or a file wrote, as HTML that shows it and does nothing else.

Everything is escaped; what is added is markup of our own: LaTeX as MathML, fenced programs highlighted, think blocks
and long tails folded. Whatever cannot be read as LaTeX or as a program is shown as the text that it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import escape
from xml.etree.ElementTree import Element

from latex2mathml import exceptions as latex_errors
from latex2mathml.converter import Converter
from markupsafe import Markup
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

FOLD_AFTER = 3_000  # characters of one text that are shown at once
LONGEST_FORMULA = 1_000
LONGEST_PROGRAM = 20_000

# Programs stand on lines of their own. In a formula `$` counts only where it hugs what it encloses, so that
# "$5 and $6" stays money.
FENCES = re.compile(
    r"^[ \t]*```[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<program>.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
FORMULAS = re.compile(
    r"\$\$(?P<display>[^$]+?)\$\$"
    r"|\\\[(?P<bracket>.+?)\\\]"
    r"|\\\((?P<inline>.+?)\\\)"
    r"|(?<![\\$\w])\$(?P<dollar>[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?![\w$])",
    re.DOTALL,
)
# Definitions let a short formula grow without bound; nothing that a problem needs.
DEFINITIONS = re.compile(r"\\(?:(?:re)?new|provide)(?:command|environment)|\\def\b|\\let\b|\\DeclareMathOperator")
MATHML = frozenset({
    "math", "mrow", "mi", "mo", "mn", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle", "mpadded",
    "mphantom", "mfenced", "menclose", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts",
    "mprescripts", "none", "mtable", "mtr", "mlabeledtr", "mtd", "merror",
})  # fmt: skip
ATTRIBUTES = frozenset({
    "display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "separator", "form", "lspace",
    "rspace", "minsize", "maxsize", "symmetric", "largeop", "movablelimits", "accent", "accentunder", "linethickness",
    "columnalign", "rowalign", "columnspacing", "rowspacing", "columnlines", "rowlines", "frame", "notation", "width",
    "height", "depth", "voffset", "open", "close", "separators", "bevelled",
})  # fmt: skip
PLAIN_VALUE = re.compile(r"[\w .,%+\-()\[\]{}|/]*")
ENTITY = re.compile(r"&#x([0-9A-Fa-f]{2,6});")
UNREADABLE: tuple[type[Exception], ...] = (
    *(one for one in vars(latex_errors).values() if isinstance(one, type) and issubclass(one, Exception)),
    ArithmeticError, AttributeError, AssertionError, LookupError, RuntimeError, StopIteration, TypeError, ValueError,
)  # fmt: skip
"""What latex2mathml raises on LaTeX it cannot read: its own errors, and whatever its parser stumbles over."""

# What a browser would drop or act on is shown by its sign: U+2400 onwards pictures the control characters.
CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {
    ord("\r"): "", 0x7F: "\u2421", **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}  # fmt: skip


def plain(text: str) -> Markup:
    """The text itself, escaped; control characters as visible signs."""
    return Markup(escape(text.translate(CONTROLS)))


def rich(text: str, mark: str | None = None, fold: int = FOLD_AFTER, cut: int | None = None) -> Markup:
    """The text with formulas, programs and folds; every `mark` in it is highlighted.

    fold: characters of a piece that are shown at once; cut: characters of the text that are there at all.
    """
    if cut is not None and len(text) > cut:
        note = Markup('<p class="note">{} more characters are not in this export; promptcot show prints them</p>')
        return rich(text[:cut], mark, fold) + note.format(f"{len(text) - cut:,}")
    shown, rest = Markup(""), text
    while rest:
        before, opened, rest = rest.partition("<think>")
        shown += _folded(before, mark, fold)
        if opened:
            thought, _, rest = rest.partition("</think>")
            shown += Markup('<details class="think"><summary>thoughts, {} characters</summary>{}</details>').format(
                f"{len(thought):,}", _folded(thought.strip("\n"), mark, fold)
            )
            rest = rest.removeprefix("\n")
    return shown


def program(text: str, language: str = "python") -> Markup:
    """A program, highlighted where the language is known and the program is not too long."""
    if len(text) > LONGEST_PROGRAM:
        return Markup("<pre><code>{}</code></pre>").format(plain(text))
    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False, ensurenl=False)
    except ClassNotFound:
        return Markup("<pre><code>{}</code></pre>").format(plain(text))
    coloured = highlight(text.translate(CONTROLS), lexer, HtmlFormatter(nowrap=True))
    return Markup("<pre><code>{}</code></pre>").format(Markup(coloured))


@lru_cache(maxsize=4096)
def formula(latex: str, display: bool) -> Markup | None:
    """MathML of a formula, None when it cannot be read."""
    if len(latex) > LONGEST_FORMULA or DEFINITIONS.search(latex):
        return None
    try:
        found = Converter(display="block" if display else "inline").convert_to_element(latex)
        return _serialized(found)
    except UNREADABLE:
        return None


def _folded(text: str, mark: str | None, fold: int) -> Markup:
    """What is folded is text only: it may be a megabyte, and formulas in it are rarely looked at."""
    head, tail = _cut(text, fold)
    if not tail:
        return _blocks(head, mark)
    more = Markup('<details class="more"><summary>{} more characters</summary>{}</details>')
    return _blocks(head, mark) + more.format(f"{len(tail):,}", _marked(tail, mark))


def _cut(text: str, length: int) -> tuple[str, str]:
    """Head and tail; the cut is at the end of a line or word where one is near, and a short tail is no tail."""
    if len(text) <= length + length // 4:
        return text, ""
    near = max(text.rfind("\n", length - length // 4, length), text.rfind(" ", length - length // 4, length))
    at = near + 1 if near > 0 else length
    return text[:at], text[at:]


def _blocks(text: str, mark: str | None) -> Markup:
    parts, at = [], 0
    for found in FENCES.finditer(text):
        parts += [_prose(text[at : found.start()], mark), program(found["program"], found["language"])]
        at = found.end()
    return Markup("").join([*parts, _prose(text[at:], mark)])


def _prose(text: str, mark: str | None) -> Markup:
    """Escaped text with its formulas; text before and after a formula is kept to the character."""
    parts, at = [], 0
    for found in FORMULAS.finditer(text):
        display = found["display"] or found["bracket"]
        if (shown := formula((display or found["inline"] or found["dollar"]).strip(), bool(display))) is None:
            continue
        parts += [_marked(text[at : found.start()], mark), shown]
        at = found.end()
    return Markup("").join([*parts, _marked(text[at:], mark)])


def _marked(text: str, mark: str | None) -> Markup:
    if not mark or mark not in text:
        return plain(text)
    return Markup("<mark>{}</mark>").format(plain(mark)).join(map(plain, text.split(mark)))


def _serialized(element: Element) -> Markup:
    """Only known tags and harmless attributes: LaTeX can ask for links, styles and classes."""
    if element.tag not in MATHML:
        raise ValueError(f"no MathML: {element.tag}")
    text = ENTITY.sub(lambda found: chr(int(found[1], 16)), element.text or "")
    if text.startswith("\\") and len(text) > 1:
        raise ValueError(f"no command that is known: {text}")
    kept = {
        name: value for name, value in element.attrib.items() if name in ATTRIBUTES and PLAIN_VALUE.fullmatch(value)
    }
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in kept.items())
    inside = Markup("").join(map(_serialized, element))
    return Markup(f"<{element.tag}{attributes}>") + plain(text) + inside + Markup(f"</{element.tag}>")


def code_styles() -> str:
    """The CSS classes of highlighted programs, light and dark."""
    light, dark = HtmlFormatter(style="friendly"), HtmlFormatter(style="github-dark")
    return f"{light.get_style_defs('pre')}\n@media (prefers-color-scheme: dark) {{\n{dark.get_style_defs('pre')}\n}}\n"
