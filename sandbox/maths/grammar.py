"""The grammar of cleaned answers: tokens, then recursive descent to a form. Linear in the text, bounded in depth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from sandbox.maths import trees
from sandbox.maths.forms import (
    Approximation,
    Collection,
    Combination,
    Expression,
    Form,
    Interval,
    Matrix,
    Number,
    Quantity,
    Relation,
    Unread,
    Words,
)
from sandbox.maths.policy import Policy
from sandbox.maths.signs import CONNECTIVES, CONSTANT_NAMES, DENIALS, FUNCTION_NAMES
from sandbox.maths.spelling import fold
from sandbox.maths.trees import Tree
from sandbox.maths.units import unit_named

DEEPEST = 60  # brackets in brackets
MOST_MARKS = 60  # exponents, factorials and primes in one answer: each makes its tree one level deeper
LONGEST_NAME = 40  # tokens before an equals sign


class Unreadable(ValueError):
    """Not in our grammar."""


def parse(text: str, policy: Policy) -> Form:
    """The form of cleaned text. Raises Unreadable, ZeroDivisionError where there is no value, or trees.TooLarge."""
    tokens = tokenize(text)
    try:
        return Parser(tokens, policy).answer()
    except Unreadable:
        if not any(token.text in ("\\pm", "\\mp") for token in tokens):
            raise
    both = [Parser(_with_signs(tokens, *signs), policy).answer() for signs in ("+-", "-+")]
    return Collection("list", tuple(item for form in both for item in _both(form)))


TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+|\d+\.)"
    r"|(?P<command>\\[a-zA-Z]+|\\[{}|\\])"
    rf"|(?P<name>{'|'.join(FUNCTION_NAMES)}|pi|infinity|inf(?![a-z])|oo(?![a-z]))"
    r"|(?P<letter>[a-zA-Z])"
    r"|(?P<words>⟦[^⟦⟧]*⟧)"
    r"|(?P<sign>\*\*|<=|>=|!=|==|[-+*/^_=<>(){}\[\],;:|!%'&])"
    r"|(?P<space>\s+)"
)
GREEK = set(
    """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon
phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell emptyset
""".split()  # noqa: SIM905
)
RELATIONS = {"=": "=", "==": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!="}
SET_SIGNS = {"\\cup": "union", "\\cap": "intersection", "\\setminus": "difference", "-": "difference"}
NAMING = {"\\mathbb", "\\Pr", "\\det"} | {
    "\\angle",
    "\\triangle",
    "\\overline",
    "\\overrightarrow",
    "\\overset",
    "\\widehat",
    "\\frown",
    "\\hat",
    "\\bar",
}
DECORATIONS = {"\\bar", "\\hat", "\\overline", "\\tilde", "\\widehat", "\\angle", "\\triangle", "\\overrightarrow"}
HYPERBOLIC = {"sinh", "cosh", "tanh", "coth", "sech", "csch"}
RESTATED = {"floor", "ceil", "gcd", "lcm", "max", "min"}
REALS = Interval(Expression(trees.negative(trees.INFINITY)), Expression(trees.INFINITY), (False, False))


class Token(NamedTuple):
    kind: str
    text: str
    spaced: bool  # whether a space stands before it


def tokenize(text: str) -> list[Token]:
    tokens, position, spaced = [], 0, False
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise Unreadable(text[position])
        position = match.end()
        if match.lastgroup == "space":
            spaced = True
            continue
        tokens.append(Token(match.lastgroup or "", match[0], spaced))
        spaced = False
    return tokens


@dataclass
class Parser:
    """Recursive descent over the tokens. `answer` reads everything; each method leaves `at` behind what it read."""

    tokens: list[Token]
    policy: Policy
    at: int = 0
    depth: int = 0
    decimal: bool = False
    restated: bool = False
    bars: int = 0
    brackets: int = 0
    functions: int = 0
    marks: int = 0
    group_end: int = -1

    def peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text if at < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].kind if at < len(self.tokens) else ""

    def take(self, *texts: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at].text in texts:
            self.at += 1
            return True
        return False

    def expect(self, *texts: str) -> str:
        text = self.peek()
        if not self.take(*texts):
            raise Unreadable(f"{' or '.join(texts)} expected, {text!r} found")
        return text

    # --- structures

    def answer(self) -> Form:
        words, items = self.items()
        if self.at < len(self.tokens):
            raise Unreadable(self.peek())
        return _joined(words, items)

    def items(self) -> tuple[list[str], list[Form]]:
        """Items up to a closing bracket or the end, and what is between them: a comma, a semicolon, `and` or `or`."""
        words: list[str] = []
        items: list[Form] = []
        while True:
            found = self.item()
            items += found
            words += [","] * (len(found) - 1)
            between = ""
            while self.peek() in (",", ";") or self.connective():
                word = self.connective()
                self.at += len(word) if word and self.kind() != "words" else 1
                between = word or between or ","
            if not between or self.at >= len(self.tokens):
                return words, items
            words.append(between)

    def connective(self) -> str:
        """`and` or `or`, if that comes next: as words, or as the single letters that plain text has so far."""
        if self.kind() == "words":
            return CONNECTIVES.get(self.peek().strip("⟦⟧ ,;").lower(), "")
        for word in ("or", "and"):
            if all(self.peek(i) == letter for i, letter in enumerate(word)):
                between_numbers = self.at > 0 and self.kind(-1) == self.kind(len(word)) == "number"
                if self.tokens[self.at].spaced or between_numbers:
                    return word
        return ""

    def item(self) -> list[Form]:
        """One item; two for `a \\pm b`, which `scalar` reads as a list."""
        end = self.name_before_equals()
        start = self.at
        first = self.side() if end is None else self.named_side(end)
        lone = end is not None or self.is_lone(start, self.at)
        if self.peek() == "\\in" and (lone or _is_of_symbols(first)):
            self.at += 1
            member = self.side()
            return [member] if self.policy.lone_variable else [Relation((first, member), ("=",), True)]
        sides: list[Form] = []
        signs: list[str] = []
        while self.peek() in RELATIONS:
            signs.append(RELATIONS[self.peek()])
            self.at += 1
            sides.append(self.side())
        if self.take("\\approx"):
            near = self.side()
            last = Approximation(sides.pop() if signs else first, near)
            if not signs:
                return [last]
            sides.append(last)
        ends = _both(sides[-1] if signs else first)
        return [Relation((first, *sides[:-1], end), tuple(signs), lone) for end in ends] if signs else ends

    def named_side(self, end: int) -> Form:
        """The side that is a name up to `end`: as an expression if it is one, else as words."""
        start = self.at
        try:
            side = self.side()
        except Unreadable:
            side = None
        if side is not None and self.at == end:
            return side
        self.at = end
        return Words(" ".join(token.text.strip("⟦⟧ ") for token in self.tokens[start:end]).lower())

    def name_before_equals(self) -> int | None:
        """Where the equals sign is behind a name like `Area`, `|AB|`, `\\angle ABC`, `P(X = 1)`, `S_{10}`; or None."""
        depth, letters = 0, ""
        for at in range(self.at, min(self.at + LONGEST_NAME, len(self.tokens))):
            kind, text, _ = self.tokens[at]
            if text == "=" and depth == 0:
                geometric = letters.isupper() and (len(letters) > 1 or self.peek() in NAMING or self.peek() == "|")
                spoken = self.kind() == "words"
                called = self.kind() == "letter" and self.peek(1) in ("(", "_") and at > self.at + 2
                return at if geometric or spoken or called or self.peek() in NAMING else None
            depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
            if depth < 0 or (kind == "words" and DENIALS & set(fold(text.strip("⟦⟧")).split())):
                return None
            of_name = kind in ("letter", "words") or text in NAMING or text[1:] in GREEK or text in ")]}|_'"
            is_index = kind == "number" and at > self.at and self.tokens[at - 1].text == "_"
            if depth == 0 and not (of_name or is_index):
                return None
            letters += text if kind == "letter" and depth == 0 else ""
        return None

    def is_lone(self, start: int, end: int) -> bool:
        kinds = [token.kind for token in self.tokens[start:end]]
        texts = [token.text for token in self.tokens[start:end] if token.text != "'"]
        if not kinds or kinds[0] not in ("letter", "command"):
            return False
        called = kinds[0] == "letter" and texts[1:2] == ["("] and texts[-1] == ")" and len(texts) == 4
        return len(texts) == 1 or texts[1] == "_" or called

    def side(self) -> Form:
        left = self.part()
        while self.peek() in SET_SIGNS and (self.peek() != "-" or isinstance(left, Interval | Combination)):
            kind = SET_SIGNS[self.peek()]
            self.at += 1
            left = Combination(kind, (*_parts_of(left, kind), self.part()))  # type: ignore[arg-type]
        return left

    def part(self) -> Form:
        start, decimal = self.at, self.decimal
        structure = self.structure()
        if structure is not None and (self.at >= len(self.tokens) or self.ends_part(structure)):
            return structure
        self.at, self.decimal = start, decimal
        if self.kind() == "words":
            self.at += 1
            return Words(fold(self.tokens[self.at - 1].text.strip("⟦⟧")))
        return self.measured(self.ratio())

    def ends_part(self, structure: Form) -> bool:
        ends = {",", ";", ")", "]", "}", "\\}", "\\rangle", "&", "\\\\", "\\end", "\\approx", "\\in", *RELATIONS}
        takes_away = self.peek() == "-" and structure is REALS
        return self.peek() in ends | (SET_SIGNS.keys() - {"-"}) or takes_away or self.kind() == "words"

    def measured(self, value: Form) -> Form:
        """The value with the unit behind it, as words or a degree sign."""
        in_degrees = self.peek() == "^" and "\\circ" in (self.peek(1), self.peek(2))
        if in_degrees:
            self.at += 2 if self.peek(1) == "\\circ" else 4
        start, said = self.at, ""
        while self.kind() == "words" and not self.connective():
            said += " " + self.peek().strip("⟦⟧ ")
            self.at += 1
            said += self.unit_power()
            if self.peek() == "/" and self.kind(1) == "words":
                said += "/"
                self.at += 1
        unit = unit_named(said.strip()) if said else None
        if unit is None:
            self.at = start
            return Quantity(value, "degree") if in_degrees else value
        if unit.scale > 1:
            if not isinstance(value, Number | Expression):
                raise Unreadable(said)
            tree = trees.mul(value.tree, trees.num(unit.scale))
            value = Number(tree[1], value.decimal) if trees.is_num(tree) else Expression(tree, value.decimal)
        return Quantity(value, unit.name) if unit.name else value

    def unit_power(self) -> str:
        """The exponent of a unit: ^2, ^-1, ^{2}, ^{-1}; or nothing."""
        for length in (2, 3, 4, 5):
            text = "".join(token.text for token in self.tokens[self.at : self.at + length])
            if re.fullmatch(r"\^(?:-?\d|\{-?\d\})", text):
                self.at += length
                return text.replace("{", "").replace("}", "")
        return ""

    def structure(self) -> Form | None:
        """A tuple, interval, bracketed list, set or matrix, the real numbers; None for what is no structure."""
        opening = self.peek()
        if opening == "\\begin":
            return self.matrix()
        if self.take("\\reals"):
            return REALS
        if opening not in CLOSINGS or (opening == "[" and self.peek(1) in ("", "]")):
            return None
        self.at += 1
        self.descend()
        self.brackets += 1
        try:
            _, items = self.items()
            closing = self.expect(*CLOSINGS[opening])
        except Unreadable:
            return None
        finally:
            self.depth -= 1
            self.brackets -= 1
        if opening in ("\\{", "{"):
            return Collection("set", tuple(items)) if opening == "\\{" or len(items) > 1 else None
        if len(items) == 1 and isinstance(items[0], Matrix | Combination) and opening + closing in ("()", "[]"):
            return items[0]
        if opening + closing in ("()", "\\langle\\rangle"):
            return Collection("tuple", tuple(items)) if len(items) > 1 else None
        if opening + closing == "[]":
            return Collection("brackets", tuple(items))
        return Interval(items[0], items[1], (opening == "[", closing == "]")) if len(items) == 2 else None

    def matrix(self) -> Form:
        self.expect("\\begin")
        name = self.braced_name()
        if name not in (
            "pmatrix",
            "bmatrix",
            "matrix",
            "Bmatrix",
            "smallmatrix",
            "psmallmatrix",
            "array",
        ):  # vmatrix is a determinant
            raise Unreadable(name)
        if name == "array" and self.peek() == "{":
            self.braced_name()
        rows: list[tuple[Form, ...]] = []
        row: list[Form] = []
        while True:
            row.append(self.side())
            if self.take("&"):
                continue
            rows.append(tuple(row))
            row = []
            if self.take("\\\\") and self.peek() != "\\end":
                continue
            self.expect("\\end")
            self.braced_name()
            if len({len(row) for row in rows}) != 1:
                raise Unreadable("rows of different length")
            return Matrix(tuple(rows))

    def braced_name(self) -> str:
        self.expect("{")
        start = self.at
        while self.peek() not in ("}", ""):
            self.at += 1
        self.expect("}")
        return "".join(token.text for token in self.tokens[start : self.at - 1])

    def descend(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("too deep")

    # --- arithmetic

    def ratio(self) -> Form:
        both = self.scalar()
        if self.peek() != ":":
            return both
        parts = [both]
        while self.take(":"):
            parts.append(self.scalar())
        return Collection("ratio", tuple(parts))

    def scalar(self) -> Form:
        self.decimal = self.restated = False
        start = self.at
        tree = self.sum()
        if self.peek() in ("\\pm", "\\mp"):
            self.at += 1
            change = self.term()
            both = trees.add(tree, change), trees.add(tree, trees.negative(change))
            return Collection("list", tuple(self.formed(tree) for tree in both))
        if _has_call(tree, ("sum", "prod")):
            return Unread(" ".join(token.text for token in self.tokens[start : self.at]), tree)
        return self.formed(tree)

    def formed(self, tree: Tree) -> Form:
        if trees.is_num(tree):
            return Number(tree[1], self.decimal, self.restated)
        return Expression(tree, self.decimal, self.restated)

    def sum(self) -> Tree:
        self.descend()
        if self.peek() in ("\\pm", "\\mp"):
            self.depth -= 1
            return trees.ZERO
        terms = [self.term()]
        while self.peek() in ("+", "-"):
            negative = self.peek() == "-"
            self.at += 1
            term = self.term()
            terms.append(trees.negative(term) if negative else term)
        self.depth -= 1
        return trees.add(*terms)

    def term(self) -> Tree:
        factors = [self.signed()]
        while True:
            if self.take("*"):
                factors.append(self.signed())
            elif self.take("/"):
                factors.append(trees.power(self.signed(), trees.MINUS_ONE))
            elif self.begins_factor():
                factors.append(self.factor())
            else:
                return trees.mul(*factors)

    def mixed(self, whole: Tree) -> Tree:
        """The whole number just read, with the fraction behind it: `1 1/2` or `1\\frac12`."""
        start = self.at
        if self.kind() == "number" and self.peek(1) == "/" and self.kind(2) == "number" and self.tokens[start].spaced:
            self.at += 3
            above, below = self.tokens[start].text, self.tokens[start + 2].text
            if not (above.isdigit() and below.isdigit()) or int(above) >= int(below):
                raise Unreadable("no mixed number")
            return trees.add(whole, trees.divide(trees.num(above), trees.num(below)))
        if self.peek() == "\\frac":
            fraction = self.command_at()
            if trees.is_num(fraction) and 0 <= fraction[1] < 1 and self.tokens[self.at - 1].text != "^":
                return trees.add(whole, fraction)
            self.at = start
        return whole

    def command_at(self) -> Tree:
        text = self.peek()
        self.at += 1
        return self.command(text)

    def begins_factor(self) -> bool:
        text, kind = self.peek(), self.kind()
        if kind in ("name", "letter"):
            return not self.connective()
        if kind == "number":  # `6 7` and `{6}7` are no products
            return self.kind(-1) != "number" and self.at != self.group_end
        if kind == "command":
            return text in FACTORS or text in DECORATIONS or text[1:] in GREEK or text[1:] in FUNCTION_NAMES
        if text == "{" and self.kind(1) == "number":
            return self.kind(-1) != "number" and self.at != self.group_end
        return text in ("(", "[", "{") or (text == "|" and not self.bars)

    def signed(self) -> Tree:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.peek() == "-"
            self.at += 1
        factor = self.factor()
        return trees.negative(factor) if negative else factor

    def factor(self) -> Tree:
        """An atom with its exponents, factorials, degree and percent signs."""
        is_whole, is_group = self.kind() == "number" and self.peek().isdigit(), self.peek() == "{"
        tree = self.atom()
        if is_group:
            self.group_end = self.at
        if is_whole and self.policy.mixed_numbers:
            tree = self.mixed(tree)
        while True:
            if self.peek() in ("^", "**"):
                if self.is_unit_of_degrees():
                    return tree
                self.mark()
                self.at += 1
                if self.take("\\circ"):
                    tree = trees.mul(tree, ("sym", "pi"), trees.num(Fraction(1, 180)))
                elif (self.peek(), self.peek(1), self.peek(2)) == ("{", "\\circ", "}"):
                    self.at += 3
                    tree = trees.mul(tree, ("sym", "pi"), trees.num(Fraction(1, 180)))
                else:
                    tree = trees.power(tree, self.exponent())
            elif self.take("!"):
                self.mark()
                tree = trees.call("factorial2" if self.take("!") else "factorial", tree)
                if self.peek() == "!":
                    raise Unreadable("!!!")
            elif self.take("%"):
                self.mark()
                tree = trees.mul(tree, trees.num(Fraction(1, 100)))
            elif self.take("'"):
                self.mark()
                tree = ("call", "prime", tree)
            else:
                return tree

    def mark(self) -> None:
        self.marks += 1
        if self.marks > MOST_MARKS:
            raise Unreadable("too many marks")

    def is_unit_of_degrees(self) -> bool:
        """Whether the degree sign here ends an item: then it is the unit of it, and elsewhere part of the value."""
        length = 2 if self.peek(1) == "\\circ" else 4 if (self.peek(1), self.peek(2)) == ("{", "\\circ") else 0
        behind = self.peek(length)
        ends = behind in ("", ",", ";", "=", "\\approx") or self.kind(length) == "words"
        return bool(length) and ends and not (self.brackets or self.functions) and self.depth == 1

    def exponent(self) -> Tree:
        """`x^23` in LaTeX is x^2 3; in plain text it is meant as x^23."""
        self.mark()
        if self.peek() == "-":
            self.at += 1
            return trees.negative(self.exponent())
        base = self.atom()
        if self.peek() in ("^", "**"):
            self.at += 1
            return trees.power(base, self.exponent())
        return base

    def atom(self) -> Tree:
        self.descend()
        try:
            return self.atom_inside()
        finally:
            self.depth -= 1

    def atom_inside(self) -> Tree:
        kind, text = self.kind(), self.peek()
        self.at += 1
        if kind == "number":
            self.decimal |= "." in text
            if len(text) > 1000 or (("e" in text.lower()) and abs(int(text.lower().split("e")[1])) > 1000):
                raise Unreadable("a number too long")
            return trees.num(text.rstrip("."))
        if kind == "letter":
            return self.symbol(text)
        if kind == "name" or (kind == "command" and text[1:] in FUNCTION_NAMES and text != "\\sqrt"):
            return self.function(text.lstrip("\\"))
        if text in ("(", "[", "{"):
            self.brackets += 1
            inside = self.sum()
            if text == "{" and self.take("\\over"):
                inside = trees.divide(inside, self.sum())
            elif text == "{" and self.take("\\choose"):
                inside = trees.call("binomial", inside, self.sum())
            self.brackets -= 1
            self.expect({"(": ")", "[": "]", "{": "}"}[text])
            return inside
        if text == "|":
            self.bars += 1
            inside = self.sum()
            self.bars -= 1
            self.expect("|")
            return trees.call("abs", inside)
        if kind == "command":
            return self.command(text)
        raise Unreadable(text or "the end")

    def symbol(self, name: str) -> Tree:
        if self.take("_"):
            if self.peek() == "{":
                name += "_" + self.braced_name()
            else:
                name += "_" + self.peek()
                self.at += 1
        return ("sym", name)

    def command(self, text: str) -> Tree:
        if text == "\\frac":
            if self.is_derivative():
                return ("sym", f"d{self.braced_name()[1:]}/{self.braced_name()}")
            above, below = self.argument(), self.argument()
            return trees.divide(above, below)
        if text == "\\sqrt":
            degree = trees.num(2)
            if self.take("["):
                degree = self.sum()
                self.expect("]")
            return trees.power(self.argument(), trees.divide(trees.ONE, degree))
        if text in ("\\binom", "\\dbinom", "\\tbinom"):
            return trees.call("binomial", self.argument(), self.argument())
        if text in ("\\sum", "\\prod"):
            self.restated = True
            self.expect("_")
            limits = self.braced() if self.peek() == "{" else [self.atom()]
            upper = self.exponent() if self.take("^") else trees.INFINITY
            return ("call", text[1:], *limits, upper, self.term())
        if text in DECORATIONS:
            return ("sym", text[1:] + " " + self.named())
        if text in ("\\lfloor", "\\lceil"):
            self.restated = True
            inside = self.sum()
            self.expect("\\rfloor" if text == "\\lfloor" else "\\rceil")
            return trees.call("floor" if text == "\\lfloor" else "ceil", inside)
        if text in ("\\pi", "\\infty"):
            return ("sym", "pi" if text == "\\pi" else "infinity")
        if text[1:] in GREEK:
            return self.symbol(text[1:])
        raise Unreadable(text)

    def is_derivative(self) -> bool:
        """Whether `{d}{dx}` or `{dy}{dx}` follows: no quotient, that the d could be cancelled from."""
        if (self.peek(), self.peek(1)) != ("{", "d"):
            return False
        below = next((at for at in (3, 4, 5) if (self.peek(at - 1), self.peek(at)) == ("}", "{")), 0)
        return self.peek(below + 1) == "d" and self.kind(below + 2) == "letter"

    def braced(self) -> list[Tree]:
        """`{k = 1}`: the variable and where it starts."""
        self.expect("{")
        sides = [self.sum()]
        while self.take("="):
            sides.append(self.sum())
        self.expect("}")
        return sides

    def named(self) -> str:
        """The letters that a bar or an angle sign stands over or before."""
        if self.peek() == "{":
            return self.braced_name()
        letters = ""
        while self.kind() == "letter" and (not letters or (self.peek().isupper() and letters.isupper())):
            letters += self.peek()
            self.at += 1
        if not letters:
            raise Unreadable(self.peek())
        return letters

    def argument(self) -> Tree:
        """What `\\frac` or `\\sqrt` applies to: a group, or one digit, letter or command."""
        if self.kind() == "number" and len(self.peek()) > 1 and "." not in self.peek():
            token = self.tokens[self.at]
            self.tokens[self.at : self.at + 1] = [
                Token("number", token.text[0], token.spaced),
                Token("number", token.text[1:], False),
            ]
        return self.atom()

    def function(self, name: str) -> Tree:
        if name in CONSTANT_NAMES:
            return ("sym", CONSTANT_NAMES[name])
        base = degree = None
        for _ in range(2):
            if base is None and self.take("_"):
                base = self.base_of_logarithm()
            elif degree is None and self.peek() in ("^", "**"):
                self.at += 1
                degree = self.exponent()
        self.functions += 1
        arguments = self.arguments()
        self.functions -= 1
        self.restated |= name in RESTATED
        value = _applied(name, base, arguments)
        if degree is None:
            return value
        if degree == trees.MINUS_ONE and name in ("sin", "cos", "tan", "cot"):
            return trees.call("arc" + name, *arguments)
        return trees.power(value, degree)

    def base_of_logarithm(self) -> Tree:
        """`\\log_28` is the logarithm of 8; in plain text, `log_10 x` has the base 10."""
        followed = self.tokens[self.at + 1 :] and self.peek(1) not in (")", "]", "}", ",", "+", "-", "*", "/", "=")
        return self.atom() if followed else self.argument()

    def arguments(self) -> list[Tree]:
        """`(a, b)`, `\\{a, b\\}`, or the factors that follow: `\\sin 2x`."""
        if self.peek() in ("(", "\\{"):
            closing = CLOSINGS[self.peek()][0]
            self.at += 1
            found = [self.sum()]
            while self.take(","):
                found.append(self.sum())
            self.expect(closing)
            return found
        factors = [self.signed()]
        while (
            self.begins_factor()
            and self.kind() != "name"
            and self.peek()[1:] not in FUNCTION_NAMES
            and self.peek() != "("
        ):
            factors.append(self.factor())
        return [trees.mul(*factors)]


CLOSINGS = {
    "(": (")", "]"), "[": (")", "]"), "\\{": ("\\}",), "{": ("}",), "\\langle": ("\\rangle",),
}  # fmt: skip
FACTORS = {"\\frac", "\\sqrt", "\\pi", "\\{", "\\lfloor", "\\lceil", "\\binom", "\\infty", "\\sum", "\\prod"}


def _joined(words: list[str], items: list[Form]) -> Form:
    """One item, or a list; inequalities with both words between them are grouped as `and` binds: closer than `or`."""
    if len(items) == 1:
        return items[0]
    said = set(words) - {","}
    if said == {"and", "or"} and any(isinstance(item, Relation) for item in items):
        groups: list[list[Form]] = [[items[0]]]
        for word, item in zip(words, items[1:], strict=True):
            groups += [[item]] if word == "or" else []
            groups[-1] += [item] if word != "or" else []
        parts = [group[0] if len(group) == 1 else Collection("list", tuple(group), "and") for group in groups]
        return Combination("union", tuple(parts))
    return Collection("list", tuple(items), said.pop() if len(said) == 1 else "")


def _is_of_symbols(form: Form) -> bool:
    return (
        isinstance(form, Collection)
        and form.kind == "tuple"
        and all(isinstance(item, Expression) and item.tree[0] == "sym" for item in form.items)
    )


def _parts_of(form: Form, kind: str) -> tuple[Form, ...]:
    """Those of a combination of the same kind, flat; an intersection or a difference stays one part."""
    return form.parts if isinstance(form, Combination) and form.kind == kind != "difference" else (form,)


def _has_call(tree: Tree, names: tuple[str, ...]) -> bool:
    return (tree[0] == "call" and tree[1] in names) or any(
        _has_call(part, names) for part in tree[1:] if isinstance(part, tuple)
    )


def _hyperbolic(name: str, x: Tree) -> Tree:
    """By powers of e, whose size shows how many digits tell tanh 1000 from 1."""
    up, down = trees.power(("sym", "e"), x), trees.power(("sym", "e"), trees.negative(x))
    minus = trees.add(up, trees.negative(down))
    plus = trees.add(up, down)
    two = trees.num(2)
    return {
        "sinh": lambda: trees.divide(minus, two), "cosh": lambda: trees.divide(plus, two),
        "tanh": lambda: trees.divide(minus, plus), "coth": lambda: trees.divide(plus, minus),
        "sech": lambda: trees.divide(two, plus), "csch": lambda: trees.divide(two, minus),
    }[name]()  # fmt: skip


def _with_signs(tokens: list[Token], upper: str, lower: str) -> list[Token]:
    """One reading of a double sign that stands inside something, as in `\\frac{1 \\pm \\sqrt5}2`."""
    return [
        Token("sign", upper if token.text == "\\pm" else lower, token.spaced)
        if token.text in ("\\pm", "\\mp")
        else token
        for token in tokens
    ]


def _both(form: Form) -> list[Form]:
    return list(form.items) if isinstance(form, Collection) and form.kind == "list" else [form]


def _applied(name: str, base: Tree | None, arguments: list[Tree]) -> Tree:
    first = arguments[0]
    if name == "sqrt":
        return trees.power(first, trees.num(Fraction(1, 2)))
    if name == "cbrt":
        return trees.power(first, trees.num(Fraction(1, 3)))
    if name == "exp":
        return trees.power(("sym", "e"), first)
    if name in HYPERBOLIC:
        return _hyperbolic(name, first)
    if name == "lg":
        return trees.divide(trees.call("log", first), trees.call("log", trees.num(10)))
    if name in ("log", "ln"):
        if base is None:
            return trees.call("log", first)
        return trees.divide(trees.call("log", first), trees.call("log", base))
    return trees.call(name, *arguments)
