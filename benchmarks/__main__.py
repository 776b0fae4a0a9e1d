"""`make bench`: every benchmark that prints ratios against a peer of its own run, each in a process of its own.

    python -m benchmarks [--small] [NAME ...]

--small takes the least that each can be asked for, so that CI notices within minutes when one can no longer run; its
figures mean nothing. What takes hours, needs a finished home or breaks things on purpose is started by its name alone:
`python -m benchmarks.soak`, and so on.
"""

import subprocess
import sys
from pathlib import Path

LEAST: dict[str, list[str]] = {  # arguments of every comparison with `--small`
    "code_location": ["1"],
    "code_tests": ["10"],
    "concepts": ["20"],
    "coverage": ["20"],
    "decontamination": ["200"],
    "deduplication": ["2000", "4000"],
    "engine": ["1"],
    "engines": ["1"],
    "gates": ["5"],
    "lake": ["500"],
    "real_model": ["--tiny"],
    "sandbox_maths": [],
    "sandbox_maths_peers": [],
    "sandbox_programs": ["--tests", "20", "--rounds", "1"],
    "scoring": ["1"],
    "training": ["--small"],
}


def main(asked: list[str]) -> int:
    small = "--small" in asked
    failed = []
    for name in [name for name in asked if name != "--small"] or LEAST:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *(LEAST.get(name, []) if small else [])]
        if subprocess.run(command, cwd=Path(__file__).parents[1], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
