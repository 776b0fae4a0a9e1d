"""The fuzz tests of the maths grader, for as long as one likes.

    python benchmarks/sandbox_maths_fuzz.py [seconds]

Prints how many examples each property held for; ends at the first that one does not hold for.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

EXAMPLES = 500  # of one property in one round
os.environ["FUZZ_EXAMPLES"] = str(EXAMPLES)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.sandbox.maths import test_fuzz  # noqa: E402


def main(seconds: float) -> None:
    properties = {name: test for name, test in vars(test_fuzz).items() if name.startswith("test_")}
    held = dict.fromkeys(properties, 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, test in properties.items():
            test()
            held[name] += EXAMPLES
    for name, examples in held.items():
        print(f"{examples:9,d} examples  {name.removeprefix('test_').replace('_', ' ')}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
