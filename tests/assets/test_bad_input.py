"""Bad input through the real command line: one clear error naming the place and the mend, and no traceback."""

from pathlib import Path

import pytest

from tests.assets.arc_runs import PROMPTCOT, run

PROFILE = """
extends: real_seeds
benchmarks: {{files: {{maths: {{own: "{benchmark}", aime24: null, aime25: null, hmmt25: null, gsm8k: null}}}}}}
corpus: {{files: {{maths: ["{seeds}"], code: null}}}}
synthesis: {{concept_sets: {{code: null}}}}
"""


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"text": "no problem here"}\n', ["seeds.jsonl", "promptcot inspect"]),
        ("", ["seeds.jsonl"]),
    ],
    ids=["missing column", "empty file"],
)
def test_bad_seed_file_is_named(tmp_path: Path, content: str, named: list[str]) -> None:
    seeds, profile = tmp_path / "seeds.jsonl", tmp_path / "mine.yaml"
    seeds.write_text(content)
    profile.write_text(PROFILE.format(seeds=seeds, benchmark=seeds))
    done = run([*PROMPTCOT, "run"], tmp_path / "home", PROMPTCOT_PROFILE=str(profile), SEEDS=str(seeds), BENCHMARKS="-")
    error = done.stderr[done.stderr.index("Error: ") :]
    assert done.returncode == 1
    assert "Traceback" not in error
    assert all(name in error for name in named), error


def test_unknown_profile_is_named_with_the_known_ones(tmp_path: Path) -> None:
    done = run([*PROMPTCOT, "run"], tmp_path / "home", PROMPTCOT_PROFILE="demmo")
    assert done.returncode == 1
    assert "demmo" in done.stderr and "demo" in done.stderr and "Traceback" not in done.stderr


def test_unset_variable_of_a_profile_is_named(tmp_path: Path) -> None:
    done = run([*PROMPTCOT, "run"], tmp_path / "home", PROMPTCOT_PROFILE="real_seeds", SEEDS="")
    assert done.returncode == 1
    assert "SEEDS" in done.stderr and "Traceback" not in done.stderr


def test_unwritable_home_is_named(tmp_path: Path) -> None:
    """A file where a folder should be: it stops root as well."""
    (tmp_path / "home").write_text("")
    done = run([*PROMPTCOT, "run"], tmp_path / "home" / "inside")
    assert done.returncode == 1
    assert str(tmp_path / "home") in done.stderr and "PROMPTCOT_HOME" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "home").is_file()
