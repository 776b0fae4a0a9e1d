"""Signs, commands and names of mathematics, and what they are written as before the grammar reads them."""

from __future__ import annotations

FUNCTION_NAMES = """
arcsin arccos arctan arccot sinh cosh tanh coth sech csch sin cos tan cot sec csc log ln lg exp sqrt cbrt max min gcd
lcm floor ceil abs
""".split()  # noqa: SIM905
CONSTANT_NAMES = {"pi": "pi", "inf": "infinity", "infinity": "infinity", "infty": "infinity", "oo": "infinity"}
CONNECTIVES = {"and": "and", "or": "or", "and also": "and", "or else": "or"}
DENIALS = set(
    """
not no non never isn wrong false incorrect except unless approximately approx about roughly maybe
""".split()  # noqa: SIM905
)
GREEK = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega Gamma
Delta Theta Lambda Xi Sigma Phi Psi Omega
""".split()  # noqa: SIM905
FRACTIONS = {
    "½": "12", "⅓": "13", "⅔": "23", "¼": "14", "¾": "34", "⅕": "15", "⅖": "25", "⅗": "35", "⅘": "45", "⅙": "16",
    "⅚": "56", "⅛": "18", "⅜": "38", "⅝": "58", "⅞": "78",
}  # fmt: skip
SIGNS = {
    "−": "-", "–": "-", "‐": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "⁄": "/", "：": ":",
    "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "°": r"^\circ ", "≤": "<=", "≥": ">=", "⩽": "<=", "⩾": ">=",
    "≠": "!=", "＝": "=", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ",
    "≈": r"\approx ", "∨": r"\lor ", "∧": r"\land ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "∠": r"\angle ",
    "△": r"\triangle ", "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "…": r"\ldots ",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "′": "'", "’": "'", "（": "(", "）": ")", "，": ",",
    "。": ".", "％": "%", "¢": " cents",
}  # fmt: skip
UNICODE = str.maketrans(
    SIGNS
    | {sign: rf"\frac{digits[0]}{digits[1]}" for sign, digits in FRACTIONS.items()}
    | {letter: rf"\{name} " for letter, name in zip("αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩ", GREEK, strict=True)}
)
RAISED, LOWERED = (str.maketrans(signs, "0123456789-+") for signs in ("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "₀₁₂₃₄₅₆₇₈₉₋₊"))
NOTHING = """
left right middle big bigl bigr bigm Big Bigl Bigr Bigm bigg biggl biggr Bigg Biggl Biggr displaystyle textstyle
limits nolimits tiny small normalsize large Large LARGE huge Huge mathbf mathit mathtt mathcal mathnormal boldsymbol
bm pmb bf rm it vec
""".split()  # noqa: SIM905
COMMANDS = dict.fromkeys(NOTHING, "") | {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=",
    "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "colon": ":", "lvert": "|",
    "rvert": "|", "vert": "|", "mid": "|", "lbrace": r"\{", "rbrace": r"\}", "lor": "⟦or⟧", "vee": "⟦or⟧",
    "land": "⟦and⟧", "wedge": "⟦and⟧", "simeq": r"\approx ", "thickapprox": r"\approx ", "varnothing": r"\emptyset ",
    "backslash": r"\setminus ", "smallsetminus": r"\setminus ", "degree": r"^\circ ", "deg": r"^\circ ",
    "measuredangle": r"\angle ", "R": r"\reals ", "dfrac": r"\frac ", "tfrac": r"\frac ", "cfrac": r"\frac ",
    "nicefrac": r"\frac ", "sfrac": r"\frac ", "cr": r"\\ ",
    "dbinom": r"\binom ", "tbinom": r"\binom ", "quad": " ", "qquad": " ", "enspace": " ", "thinspace": " ",
}  # fmt: skip
NUMBER_SETS = {"R": r"\reals ", "Z": "⟦integers⟧", "N": "⟦natural numbers⟧"}
CURRENCIES = r"(\\?\$|£|€|¥|₹)"
DEGREE_SCALES = {"": "", "C": "celsius", "F": "fahrenheit", "K": "kelvin"}
