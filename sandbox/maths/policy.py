"""What is convention rather than mathematics, each point by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """How answers are to be read. Whatever is not named here is decided by mathematics alone.

    percent: `value`: 50% is 1/2 and never 50; `optional`: the sign is a unit that may be missing, 50% is 50.
    units: `optional`: may be missing on one side, two different ones differ; `required`; `ignored`.
    ordered_lists: whether `1, 2` without brackets differs from `2, 1`. Tuples always have an order, sets never.
    tolerance: relative, for answers written as decimals. Integers are compared exactly, whatever it is.
    multiple_choice: whether `(B)`, `B.` and `\\text{B}` answer the reference `B`.
    mixed_numbers: whether `1 1/2` and `1\\frac{1}{2}` are 3/2; if not, the latter is a product.
    decimal_comma: whether `3,5` is 7/2; if not, it is a list, and `1,234` an integer.
    lone_variable: whether `x = 5` answers the reference `5` and the other way round.
    restatements: whether what still has to be computed answers a reference that is a number: a sum, an integral, a
    limit, a determinant, a floor, a greatest common divisor of the question. Rewards refuse it.
    """

    percent: Literal["value", "optional"] = "value"
    units: Literal["optional", "required", "ignored"] = "optional"
    ordered_lists: bool = False
    tolerance: float = 0.0
    multiple_choice: bool = True
    mixed_numbers: bool = True
    decimal_comma: bool = False
    lone_variable: bool = True
    restatements: bool = True


DEFAULT = Policy()
REWARDS = Policy(restatements=False)  # of training and benchmarks: what a completion is paid for
