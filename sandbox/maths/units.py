"""What may stand behind a number without being part of it: units of measure, things that are counted, scale words.

A list of known ones: behind a number any other word belongs to the answer (`5 tenths`, `7 or more`, `3 modulo 5`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

MEASURES = {  # spellings of one unit; the first is its name
    "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre",
    "nm": "nanometer", "inch": "in inches", "foot": "feet ft", "yard": "yd", "mile": "mi",
    "g": "gram gramme gm", "kg": "kilogram kilogramme kilo", "mg": "milligram", "ton": "tonne", "pound": "lb lbs",
    "ounce": "oz", "s": "second sec", "min": "minute", "h": "hour hr", "ms": "millisecond", "day": "", "week": "wk",
    "month": "", "year": "yr", "decade": "", "century": "centuries",
    "L": "liter litre l", "mL": "milliliter millilitre ml", "cL": "cl", "cc": "", "gallon": "gal", "quart": "qt",
    "pint": "", "cup": "", "tablespoon": "tbsp", "teaspoon": "tsp", "acre": "", "hectare": "ha",
    "N": "newton", "J": "joule", "kJ": "", "W": "watt", "kW": "kilowatt", "kWh": "", "V": "volt", "A": "ampere amp",
    "Pa": "pascal", "kPa": "", "Hz": "hertz", "kHz": "", "MHz": "", "kelvin": "", "mol": "mole", "eV": "",
    "cal": "calorie", "kcal": "", "byte": "", "kB": "", "MB": "", "GB": "", "bit": "", "dB": "", "ohm": "",
    "tesla": "", "light-year": "", "degree": "deg °", "rad": "radian", "celsius": "", "fahrenheit": "",
    "mile/h": "mph", "km/h": "kph kmph", "knot": "", "$": "dollar usd buck \\$", "cent": "¢", "€": "euro eur",
    "£": "gbp", "¥": "yen yuan rmb", "₹": "rupee inr", "peso": "", "franc": "", "penny": "pennies pence",
    "nickel": "", "dime": "", "quarter": "", "unit": "",
}  # fmt: skip
COUNTED = set(
    """
adult animal answer apple apricot arrangement arrow article atom bag ball balloon banana bar barrel basket bead bean
bear bee bicycle bike bill bird block board boat book bottle bouquet bow bowl box boy bracelet branch bread brick
brother bucket bug building bus bush button cage cake can candle candy candies car card carrot case cat chair chicken
child children chip chocolate choice circle class classes city cities clip clown code coin color coloring colouring
combination committee computer cone configuration container cookie cow cracker crayon cubes cupcake customer diagonal
digit diner dinosaur divisor dog doll domino donut door doughnut dress drink drop duck edge egg element employee
engine envelope episode event exercise face factors fan fish flavor floor flower folder fork friend frog fruit
functions game gift girl glass goal goat goose geese grade grain grape guest hamster handshake hat head hen hexagon
hole home horse house integer invitation item jar jelly key kid kilometer kite kitten lamp lap leaf leaves leg lemon
lesson letter level light line lion list loaf loaves lollipop lunch man men marble mask match meal member message mice
mouse minnow mistake monkey mouse move movie muffin mushroom nail necklace neighbor night notebook number object onion
option orange orbit order outcome outfit owl package packet page painting pair pancake paper park part participant
partition passenger path patient peach pear pen pencil penguin people permutation person phone photo piano picture pie
piece pig pigeon pizza place plane planet plant plate player point polygon polynomial position post potato potatoes
prime prize problem product program pupil puppy puppies puzzle question rabbit race rectangle region ribbon ride ring
road robot rock roll room roots rope rose round route row ruler runner sandwich scarf scarves school seat section seed
segment sequence set shape sheep sheet shelf shelves shell ship shirt shoe shop shot show side sister slice snack sock
soda soldier solution song spider spoon square stair stamp star step stick sticker stone store story stories straw
strawberry strawberries student subset sweater sweet table tank task teacher team term test tick ticket tile time
token tomato tomatoes tuple quadruple tooth teeth toy track train tree triangle trip triple truck trophy trophies
turkey turn turtle value vase vehicle vertex vertices video visit visitor volunteer vote wall watermelon way wheel
window winner wolf wolves woman women word worker worm zebra zero
""".split()  # noqa: SIM905
)
FILLERS = set(
    """
each all total distinct different possible old long tall wide high deep apart away ago left remaining red blue green
black white yellow positive real ordered unordered whole new sold needed
""".split()  # noqa: SIM905
)  # beside a unit they say nothing more about the number
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip
POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
NAMES = {spelling: name for name, others in MEASURES.items() for spelling in (name, *others.split())}
PART = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)?|[$€£¥₹¢°/*]|\^ ?\{? ?-?\d ?\}?|\\\$| ")


class Unit(NamedTuple):
    """scale: what the number before it is multiplied by, as in `5 million`. name: empty for a mere scale."""

    scale: int
    name: str


def unit_named(words: str) -> Unit | None:
    """The unit that these words are, in one spelling: `miles per hour` is `mile/h`, `square centimeters` `cm^2`."""
    words = words.replace(".", " ").strip(" ()")
    parts: list[str] = []
    at = 0
    while at < len(words):
        part = PART.match(words, at)
        if part is None:
            return None
        at = part.end()
        parts += [part[0]] if part[0] != " " else []
    scale = 1
    while parts and (factor := SCALES.get(parts[0].removesuffix("s"))):
        scale, parts = scale * factor, parts[1:]
    if parts[:1] == ["of"]:
        parts = parts[1:]
    names = [_name(part) for part in parts]
    if None in names:
        return None
    name = _in_order([name for name in names if name])
    if name[:1] in ("^", "/") or not (name or (scale > 1 and not parts)):
        return None
    return Unit(scale, name)


def _name(part: str) -> str | None:
    if part in ("/", "per", "a", "an"):
        return "/"
    if part == "*" or part.lower() in FILLERS:
        return ""
    if part[0] == "^":
        return "^" + re.sub(r"[\^ {}]", "", part)
    lower = part.lower()
    if lower in POWERS:
        return POWERS[lower]
    for spelling in (part, *((lower, lower.removesuffix("s"), lower.removesuffix("es")) if len(part) > 1 else ())):
        if spelling in NAMES:
            return NAMES[spelling]
        if spelling in COUNTED:
            return spelling
    return None


def _in_order(names: list[str]) -> str:
    """A power named before its unit, behind it: `square foot` is `foot^2`."""
    for at in range(len(names) - 1):
        if names[at][0] == "^" and names[at + 1][0] not in "^/":
            names[at : at + 2] = [names[at + 1], names[at]]
    return "".join(names)
