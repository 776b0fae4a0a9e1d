"""Plots are images for the asset pages; a measure that no domain has is said, not drawn."""

import base64

import pytest
from matplotlib.figure import Figure

from promptcot_assets.reports import plots

POINT = {"series": "em", "round": 1, "domain": "maths", "metric": "iw_bound", "value": -3.0, "standard_error": 0.1,
         "split": "held_out", "steps": 5}  # fmt: skip


def test_curves_are_one_png() -> None:
    drawn = plots.em_curves([POINT, POINT | {"round": 2, "value": -2.0}])
    image = base64.b64decode(drawn.partition("base64,")[2].rstrip(")"))
    assert image.startswith(b"\x89PNG")


def test_the_em_figure_has_four_curves_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_markdown", lambda figure, alt: drawn.append(figure) or "")
    problem, alone = POINT | {"metric": "log_p_problem"}, POINT | {"metric": "log_p_problem_alone"}
    start = {"series": "cold_start", "round": 0, "steps": 3}
    run = [
        problem | start, alone | start | {"value": -9.0}, problem | {"value": -2.0},
        problem | {"series": "extra_training", "value": -2.5},
    ]  # fmt: skip
    plots.em_figure(run)
    plots.em_figure(run, [row | {"value": row["value"] - 1} for row in run])
    for figure, shift in zip(drawn, (0.0, 0.5), strict=True):
        lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
        assert lines["with E-step"] == [3.0 + shift, 2.0 + shift]
        assert lines["without E-step (annotated rationales)"] == [3.0 + shift, 2.5 + shift]
        assert lines["initial, with rationale"][0] == 3.0 + shift
        assert lines["initial, without rationale"][0] == 9.0 + shift


def test_a_measure_that_no_domain_has_is_said() -> None:
    assert plots.em_curves([POINT], "well_posed") == "*well_posed is not measured in any domain*"
