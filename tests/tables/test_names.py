"""Where a table is named outside its declaration (tables/), its asset (assets/) and its computation (stages/)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import promptcot_assets
from promptcot_assets.tables import TABLES

ROOT = Path(promptcot_assets.__file__).parent
OWN_ROOMS = ("tables", "assets", "stages")  # a table is declared, made and computed there

# Each of these asks for a table by what only that table holds. What is true of several tables is a flag of
# tables/table.py, and whoever needs their list takes it from there. Columns and settings of such a name are among them.
NAMED_IN = """
automation/ablations.py: cold_rationale_model cold_problem_generator rationale_model problem_generator
    control_rationale_model control_problem_generator seed_problems cold_start_bounds em_bounds control_bounds
automation/checks.py: seed_problems seed_triples benchmark_items problems math_answers verdicts preference_pairs
automation/improve.py: self_play_gate
automation/jobs.py: rollouts_online relabelled written_judges tested_judges
automation/preview.py: concept_sets problems verdicts
automation/sensors.py: problem_generator self_play_model em_bounds raw_problems benchmark_scores
doctor/estimate.py: base_model cold_rationale_model cold_problem_generator rationale_model problem_generator
    control_rationale_model control_problem_generator student_base sft_model self_play_model seed_annotations
    benchmark_items cold_start_bounds em_rationales em_m_step em_bounds control_bounds common_bounds raw_problems
    problems math_votes proposed_tests candidate_programs written_judges teacher_traces sft_examples rollouts
    rollouts_online self_play_gate benchmark_generations zero_shot_difficulty tuned_generator tuning_samples
lineage/recall.py: seed_problems concept_corpus benchmark_items benchmark_scores
reports/benchmark_report.py: benchmark_items problems benchmark_generations benchmark_verdicts benchmark_scores
    codeforces_ratings scaling
reports/cards.py: teacher_model seed_problems benchmark_items problems dropped_problems benchmark_scores yield_report
reports/croissant.py: distribution
reports/export.py: cold_problem_generator problem_generator em_bounds em_curves sft_examples preference_pairs
    yield_report distribution
reports/inspection.py: base_model
reports/plots.py: problems
reports/reader/em.py: em_rationales
reports/reader/export.py: benchmark_scores
reports/reader/front.py: sft_model self_play_model em_curves benchmark_scores yield_report
reports/reader/pages.py: seed_problems benchmark_verdicts
reports/regrade.py: seed_problems benchmark_items problems math_votes math_answers proposed_tests
    candidate_programs tested_judges code_tests teacher_traces sft_examples relabelled rollouts rollouts_online verdicts
    benchmark_generations benchmark_verdicts
reports/release.py: seed_problems seed_triples concept_corpus benchmark_items problems math_answers code_tests
    teacher_traces sft_examples rollouts verdicts preference_pairs self_play_examples benchmark_generations
    benchmark_verdicts benchmark_scores
reports/release_folder.py: code_tests
reports/summary.py: em_curves raw_problems problems benchmark_scores yield_report
reports/trainers.py: seed_problems problems math_answers code_tests
settings/profile.py: base_model concept_sets raw_problems math_votes math_answers proposed_tests candidate_programs
    written_judges code_tests teacher_traces rollouts_online preference_pairs
    self_play_examples
"""
NAMED: dict[str, set[str]] = {
    file: set(names.split()) for file, names in re.findall(r"^(\S+): ((?:.+\n)(?:    .+\n)*)", NAMED_IN, re.MULTILINE)
}


def named(source: str) -> set[str]:
    """The tables whose name is a string in a program's text."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and value in TABLES}


def test_a_table_is_named_only_where_its_declaration_does_not_reach() -> None:
    files = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
    found = {
        name: tables
        for name, path in files.items()
        if not name.startswith(OWN_ROOMS) and (tables := named(path.read_text()))
    }
    new = {name: tables - NAMED.get(name, set()) for name, tables in found.items()}
    stale = {name: tables - found.get(name, set()) for name, tables in NAMED.items()}
    assert not {name: tables for name, tables in new.items() if tables}, "derive it from TABLES or the graph"
    assert not {name: tables for name, tables in stale.items() if tables}, "shorten the list: it names what is gone"


def test_a_name_is_seen_wherever_it_stands() -> None:
    text = 'def f(x: str = "problems") -> None:\n    """rollouts"""\n    return {"verdicts": [x, f"{x} difficulty"]}'
    assert named(text) == {"problems", "rollouts", "verdicts"}
