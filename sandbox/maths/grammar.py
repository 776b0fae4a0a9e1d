"""The grammar of cleaned answers: tokens, then recursive descent to a form. Linear in the text, bounded in depth."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from sandbox.maths import trees
from sandbox.maths.forms import (
    Collection,
    Expression,
    Form,
    Interval,
    Matrix,
    Number,
    Relation,
    Union,
    Words,
)
from sandbox.maths.policy import Policy
from sandbox.maths.spelling import CONSTANT_NAMES, FUNCTION_NAMES, fold
from sandbox.maths.trees import Tree

DEEPEST = 60  # brackets in brackets


class Unreadable(ValueError):
    """Not in our grammar."""


def parse(text: str, policy: Policy) -> Form:
    """The form of cleaned text. Raises Unreadable, ZeroDivisionError or trees.TooLarge."""
    return Parser(tokenize(text), policy).answer()


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
    bars: int = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].text if self.at + ahead < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead].kind if self.at + ahead < len(self.tokens) else ""

    def take(self, *texts: str) -> bool:
        if self.peek() in texts and self.at < len(self.tokens):
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
        items = self.items()
        if self.at < len(self.tokens):
            raise Unreadable(self.peek())
        return items[0] if len(items) == 1 else Collection("list", tuple(items))

    def items(self) -> list[Form]:
        """Items up to a closing bracket or the end, separated by a comma, a semicolon, `and` or `or`."""
        items: list[Form] = []
        while True:
            items += self.item()
            separated = False
            while self.take(",", ";") or self.connective():
                separated = True
            if not separated or self.at >= len(self.tokens):
                return items

    def connective(self) -> bool:
        words = self.peek().strip("⟦⟧ ,") if self.kind() == "words" else ""
        if words in ("and", "or"):
            self.at += 1
            return True
        for word in ("or", "and"):  # plain text: single letters so far
            spelled = all(self.peek(i) == letter for i, letter in enumerate(word))
            if spelled and self.tokens[self.at].spaced:
                self.at += len(word)
                return True
        return False

    def item(self) -> list[Form]:
        """One item; two for `a \\pm b`, which `scalar` reads as a list."""
        start = self.at
        first = self.side()
        sides: list[Form] = []
        signs: list[str] = []
        lone = self.is_lone(start, self.at)
        if self.peek() == "\\in" and lone:
            self.at += 1
            return [self.side()] if self.policy.lone_variable else [Relation((first, self.side()), ("=",), True)]
        while self.peek() in RELATIONS:
            signs.append(RELATIONS[self.peek()])
            self.at += 1
            sides.append(self.side())
        ends = _both(sides[-1] if signs else first)
        return [Relation((first, *sides[:-1], end), tuple(signs), lone) for end in ends] if signs else ends

    def is_lone(self, start: int, end: int) -> bool:
        texts = [token.text for token in self.tokens[start:end]]
        kinds = [token.kind for token in self.tokens[start:end]]
        if not kinds or kinds[0] not in ("letter", "command"):
            return False
        rest = texts[1:]
        return (
            not rest
            or rest[0] == "_"
            or (kinds[0] == "letter" and rest[0] == "(" and rest[-1] == ")" and len(rest) == 3)
        )

    def side(self) -> Form:
        parts = [self.part()]
        while self.take("\\cup"):
            parts.append(self.part())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def part(self) -> Form:
        start, decimal = self.at, self.decimal
        structure = self.structure()
        if structure is not None and (self.at >= len(self.tokens) or self.ends_part()):
            return structure
        self.at, self.decimal = start, decimal
        if self.kind() == "words":
            self.at += 1
            return Words(fold(self.tokens[self.at - 1].text.strip("⟦⟧")))
        return self.ratio()

    def ends_part(self) -> bool:
        return (
            self.peek() in {",", ";", ")", "]", "\\}", "\\cup", "&", "\\\\", "\\end", *RELATIONS}
            or self.kind() == "words"
        )

    def structure(self) -> Form | None:
        """A tuple, interval, bracketed list, set or matrix; None for what is no structure."""
        opening = self.peek()
        if opening == "\\begin":
            return self.matrix()
        if opening not in ("(", "[", "\\{"):
            return None
        if opening == "[" and self.peek(1) in ("", "]"):
            return None
        self.at += 1
        self.descend()
        try:
            items = self.items()
            closing = self.expect(*(("\\}",) if opening == "\\{" else (")", "]")))
        except Unreadable:
            return None
        finally:
            self.depth -= 1
        if opening == "\\{":
            return Collection("set", tuple(items))
        if opening + closing == "()":
            return Collection("tuple", tuple(items)) if len(items) > 1 else None
        if opening + closing == "[]":
            return Collection("brackets", tuple(items))
        return Interval(items[0], items[1], (opening == "[", closing == "]")) if len(items) == 2 else None

    def matrix(self) -> Form:
        self.expect("\\begin")
        name = self.braced_name()
        if name not in ("pmatrix", "bmatrix", "matrix", "Bmatrix", "array"):  # vmatrix is a determinant
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
        self.decimal = False
        tree = self.sum()
        if self.peek() in ("\\pm", "\\mp"):
            self.at += 1
            change = self.term()
            both = trees.add(tree, change), trees.add(tree, trees.negative(change))
            return Collection("list", tuple(self.formed(tree) for tree in both))
        return self.formed(tree)

    def formed(self, tree: Tree) -> Form:
        return Number(tree[1], self.decimal) if trees.is_num(tree) else Expression(tree, self.decimal)

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
        tree = self.signed()
        while True:
            if self.take("*"):
                tree = trees.mul(tree, self.signed())
            elif self.take("/"):
                tree = trees.divide(tree, self.signed())
            elif self.begins_factor():
                mixed = self.mixed(tree)
                tree = mixed if mixed is not None else trees.mul(tree, self.factor())
            else:
                return tree

    def mixed(self, whole: Tree) -> Tree | None:
        """The fraction behind a whole number, `1 1/2` or `1\\frac12`, added to it; None for a product."""
        before = self.tokens[self.at - 1]
        if not self.policy.mixed_numbers or before.kind != "number" or not trees.is_num(whole):
            return None
        if not before.text.isdigit():
            return None
        start = self.at
        if self.kind() == "number" and self.peek(1) == "/" and self.kind(2) == "number":
            self.at += 3
            fraction = trees.num(Fraction(int(self.tokens[start].text), int(self.tokens[start + 2].text)))
        elif self.peek() == "\\frac":
            fraction = self.factor()
        else:
            return None
        plain = trees.is_num(fraction) and 0 < fraction[1] < 1
        if not plain:
            self.at = start
            return None
        return trees.add(whole, fraction) if whole[1] >= 0 else trees.add(whole, trees.negative(fraction))

    def begins_factor(self) -> bool:
        text, kind = self.peek(), self.kind()
        if kind in ("name", "letter"):
            return not (self.tokens[self.at].spaced and self.at_connective())
        if kind == "number":
            return self.tokens[self.at - 1].kind != "number" or self.tokens[self.at].spaced
        if kind == "command":
            return text in ("\\frac", "\\sqrt", "\\pi", "\\{", "\\lfloor", "\\lceil", "\\binom", "\\infty") or (
                text[1:] in GREEK or text[1:] in FUNCTION_NAMES
            )
        return text in ("(", "[", "{") or (text == "|" and not self.bars)

    def at_connective(self) -> bool:
        here = self.at
        found = self.connective()
        self.at = here
        return found

    def signed(self) -> Tree:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.peek() == "-"
            self.at += 1
        factor = self.factor()
        return trees.negative(factor) if negative else factor

    def factor(self) -> Tree:
        """An atom with its exponents, factorials and percent signs."""
        tree = self.atom()
        while True:
            if self.peek() in ("^", "**"):
                self.at += 1
                if self.take("\\circ"):
                    tree = trees.mul(tree, ("sym", "pi"), trees.num(Fraction(1, 180)))
                elif (self.peek(), self.peek(1), self.peek(2)) == ("{", "\\circ", "}"):
                    self.at += 3
                    tree = trees.mul(tree, ("sym", "pi"), trees.num(Fraction(1, 180)))
                else:
                    tree = trees.power(tree, self.exponent())
            elif self.take("!"):
                tree = trees.call("factorial", tree)
            elif self.take("%"):
                tree = trees.mul(tree, trees.num(Fraction(1, 100)))
            elif self.take("'"):
                tree = ("call", "prime", tree)
            else:
                return tree

    def exponent(self) -> Tree:
        """`x^23` in LaTeX is x^2 3; in plain text it is meant as x^23."""
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
            inside = self.sum()
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
        if text in ("\\lfloor", "\\lceil"):
            inside = self.sum()
            self.expect("\\rfloor" if text == "\\lfloor" else "\\rceil")
            return trees.call("floor" if text == "\\lfloor" else "ceil", inside)
        if text in ("\\pi", "\\infty"):
            return ("sym", "pi" if text == "\\pi" else "infinity")
        if text[1:] in GREEK:
            return self.symbol(text[1:])
        raise Unreadable(text)

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
                base = self.atom()
            elif degree is None and self.peek() in ("^", "**"):
                self.at += 1
                degree = self.exponent()
        arguments = self.arguments()
        value = _applied(name, base, arguments)
        if degree is None:
            return value
        if degree == trees.MINUS_ONE and name in ("sin", "cos", "tan", "cot"):
            return trees.call("arc" + name, *arguments)
        return trees.power(value, degree)

    def arguments(self) -> list[Tree]:
        """`(a, b)`, or the factors that follow: `\\sin 2x`."""
        if self.take("("):
            found = [self.sum()]
            while self.take(","):
                found.append(self.sum())
            self.expect(")")
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
    if name in ("log", "ln"):
        if base is None:
            return trees.call("log", first)
        return trees.divide(trees.call("log", first), trees.call("log", base))
    return trees.call(name, *arguments)
