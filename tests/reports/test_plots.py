"""Plots are images for the asset pages; a measure that no domain has is said, not drawn."""

import base64
from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from promptcot_assets.reports import plots

POINT = {"series": "em", "round": 1, "domain": "maths", "metric": "iw_bound", "value": -3.0, "standard_error": 0.1,
         "split": "held_out", "steps": 5}  # fmt: skip
SCORE = {"benchmark": "mini_code", "stage": "base", "value": 0.7, "low": 0.6, "high": 0.8}
SET = {"dataset": "seed problems", "problems": 2_400, "x": 0.0, "y": 0.0}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that the plots made, laid out as in their pictures."""
    figures: list[Figure] = []

    def keep(figure: Figure, alt: str) -> str:
        figure.draw_without_rendering()
        figures.append(figure)
        return alt

    monkeypatch.setattr(plots, "_markdown", keep)
    return figures


def test_curves_are_one_png() -> None:
    drawn = plots.em_curves([POINT, POINT | {"round": 2, "value": -2.0}])
    image = base64.b64decode(drawn.partition("base64,")[2].rstrip(")"))
    assert image.startswith(b"\x89PNG")


def test_the_em_figure_has_four_curves_a_domain(drawn: list[Figure]) -> None:
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


def test_the_papers_second_curve_is_drawn_where_there_are_frozen_rationales(drawn: list[Figure]) -> None:
    problem = POINT | {"metric": "log_p_problem"}
    start = problem | {"series": "cold_start", "round": 0, "steps": 3}
    frozen = [start | {"value": -99.0}, problem | {"value": -2.5, "steps": 6}]
    plots.em_figure([start, problem | {"value": -2.0}], frozen=[frozen])
    plots.em_figure([start, problem | {"value": -2.0}])
    with_it, without = ({line.get_label(): line for line in figure.axes[0].get_lines()} for figure in drawn)
    assert list(with_it["without E-step (rationales frozen)"].get_ydata()) == [3.0, 2.5]
    assert list(with_it["without E-step (rationales frozen)"].get_xdata()) == [3, 6]
    assert "without E-step (rationales frozen)" not in without


def test_a_bound_is_drawn_over_the_size_of_its_pool(drawn: list[Figure]) -> None:
    points = [
        POINT | {"point_id": f"{series}{size}", "series": series, "round": round_, "metric": f"bound at pool {size}",
                 "value": -value, "standard_error": None}
        for series, round_, values in (("cold_start", 0, (9, 8, 7)), ("em", 2, (6, 5, 4)), ("em", 1, (8,)))
        for size, value in zip((18, 66, 258), values, strict=False)
    ]  # fmt: skip
    plots.pool_curve(points)
    (axes,) = drawn[0].axes
    lines = {bars.get_label(): bars.lines[0] for bars in axes.containers}
    assert list(lines) == ["cold start 0", "em 2"]  # what is only on the small pool is no curve
    assert list(lines["em 2"].get_xdata()) == [18, 66, 258] and list(lines["em 2"].get_ydata()) == [-6, -5, -4]
    assert axes.get_xscale() == "log" and [tick.get_text() for tick in axes.get_xticklabels()] == ["18", "66", "258"]
    assert plots.pool_curve([POINT]) == "*no larger pool is drawn (em.held_out.large_pool)*"


def test_a_measure_that_no_domain_has_is_said() -> None:
    assert plots.em_curves([POINT], "well_posed") == "*well_posed is not measured in any domain*"


def test_problem_sets_that_differ_on_one_axis_lie_on_one_line(drawn: list[Figure]) -> None:
    noise = [SET | {"x": x, "y": 2.744190263e-9 + y} for x, y in ((0.4, 7e-21), (-0.3, 5e-21), (-0.1, 4e-21))]
    plots.problem_map(noise)
    places = _points(drawn[0])
    assert max(y for _, y in places) - min(y for _, y in places) < 1  # pixel
    assert not drawn[0].axes[0].yaxis.get_offset_text().get_text()


def test_a_distance_is_as_long_across_as_up(drawn: list[Figure]) -> None:
    plots.problem_map([SET, SET | {"x": 0.1}, SET | {"y": 0.1}])
    (x, y), (right, _), (_, up) = _points(drawn[0])
    assert right - x == pytest.approx(up - y)


def test_rounding_noise_on_both_axes_is_no_distance(drawn: list[Figure]) -> None:
    plots.problem_map([SET, SET | {"x": 1e-9, "y": -1e-9}])
    (x, y), (other_x, other_y) = _points(drawn[0])
    assert (other_x, other_y) == pytest.approx((x, y), abs=1)


@pytest.mark.parametrize("count", [1, 4, 14])
def test_the_names_of_problem_sets_stay_in_the_picture(drawn: list[Figure], count: int) -> None:
    plots.problem_map([SET | {"dataset": f"benchmark of a rather long name {i}", "x": i / 9} for i in range(count)])
    _legend_is_apart(drawn[0], count)
    assert all(drawn[0].axes[0].bbox.contains(*place) for place in _points(drawn[0]))


def test_problem_sets_at_one_place_have_their_own_marks(drawn: list[Figure]) -> None:
    plots.problem_map([SET, SET | {"dataset": "synthetic problems"}])
    one, other = (dots.get_paths()[0].vertices.tolist() for dots in drawn[0].axes[0].collections)
    assert one != other


def test_equal_scores_of_two_stages_are_both_seen(drawn: list[Figure]) -> None:
    rows = [
        SCORE | {"benchmark": name, "stage": stage} for stage in ("base", "sft") for name in ("mini_code", "mini_maths")
    ]
    plots.score_bars([*rows, SCORE | {"stage": "self_play"}], "benchmarks")
    axes = drawn[0].axes[0]
    places = {bars.get_label(): bars.lines[0].get_ydata().tolist() for bars in axes.containers}
    assert [name.get_text() for name in axes.get_yticklabels()] == ["mini_code", "mini_maths"]
    assert {stage: [round(place) for place in at] for stage, at in places.items()} == {
        "base": [0, 1], "sft": [0, 1], "self_play": [0],
    }  # fmt: skip
    assert all(b - a >= 0.15 for a, b in pairwise([at[0] for at in places.values()]))
    _legend_is_apart(drawn[0], 3)


def test_names_of_many_benchmarks_do_not_touch(drawn: list[Figure]) -> None:
    plots.score_bars([SCORE | {"benchmark": f"livecodebench_v{i}"} for i in range(8)], "benchmarks")
    names = drawn[0].axes[0].get_yticklabels()
    assert [name.get_text() for name in names] == [f"livecodebench_v{i}" for i in range(8)]
    assert not any(a.get_window_extent().overlaps(b.get_window_extent()) for a, b in pairwise(names))


def test_equal_measures_of_two_series_are_both_seen(drawn: list[Figure]) -> None:
    plots.em_curves([POINT, POINT | {"series": "extra_training"}])
    (em,), (control,) = (bars.lines[0].get_xdata() for bars in drawn[0].axes[0].containers)
    assert 0.05 < control - em < 0.5
    assert list(drawn[0].axes[0].get_xticks()) == [1]
    _legend_is_apart(drawn[0], 2)


def test_a_series_has_one_colour_in_every_domain(drawn: list[Figure]) -> None:
    plots.em_curves([POINT | {"series": "cold_start"}, POINT, POINT | {"domain": "code"}])
    colours = {bars.get_label(): bars.lines[0].get_color() for bars in drawn[0].axes[1].containers}
    only = [bars for bars in drawn[0].axes[0].containers if len(bars.lines[0].get_xdata())]
    assert [(bars.get_label(), bars.lines[0].get_color()) for bars in only] == [("em", colours["em"])]


@pytest.mark.parametrize(("metric", "unit"), [("iw_bound", "nats a problem"), ("well_posed", "share of samples")])
def test_a_measure_has_its_own_unit(drawn: list[Figure], metric: str, unit: str) -> None:
    plots.em_curves([POINT | {"metric": metric}], metric)
    assert drawn[0].axes[0].get_ylabel() == f"{metric} ({unit})"


def test_the_funnel_is_free_of_its_legend_and_frame(drawn: list[Figure]) -> None:
    steps = [("completions", 2_400), ("parsed", 2_399), ("with a valid trace", 1_570)]
    plots.funnel([
        {"domain": domain, "step": step, "position": at, "rows": rows // share}
        for domain, share in (("mini_code", 4), ("mini_maths", 1)) for at, (step, rows) in enumerate(steps)
    ])  # fmt: skip
    axes = drawn[0].axes[0]
    assert [number.get_text() for number in axes.texts] == ["600", "599", "392", "2,400", "2,399", "1,570"]
    _numbers_are_inside(drawn[0])
    _legend_is_apart(drawn[0], 2)


def test_an_empty_funnel_is_drawn(drawn: list[Figure]) -> None:
    plots.funnel([])
    assert not drawn[0].legends


@pytest.mark.parametrize("money", [None, 0.25])
def test_costs_are_numbers_that_one_can_read(drawn: list[Figure], money: float | None) -> None:
    entry = {"step": "raw_problems", "rows_out": 2_998, "tokens": 251_522, "seconds": 10.719, "money": money}
    plots.step_costs([entry, entry | {"step": "problems", "tokens": 0}], "EUR")
    assert [axes.texts[0].get_text() for axes in drawn[0].axes] == [
        "2,998", "251,522", "10.72", *(["0.25"] if money else []),
    ]  # fmt: skip
    _numbers_are_inside(drawn[0])
    for axes in drawn[0].axes:
        ticks = [tick.get_window_extent() for tick in axes.get_xticklabels()]
        assert not any(a.overlaps(b) for a, b in pairwise(ticks))


def _points(figure: Figure) -> list[tuple[float, float]]:
    """Where the points of the map are, in pixels."""
    axes = figure.axes[0]
    return [tuple(axes.transData.transform(dots.get_offsets()[0])) for dots in axes.collections]


def _legend_is_apart(figure: Figure, names: int) -> None:
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == names
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= figure.bbox.y0
    assert not any(axes.get_legend() or box.overlaps(axes.get_tightbbox()) for axes in figure.axes)


def _numbers_are_inside(figure: Figure) -> None:
    for axes in figure.axes:
        assert all(number.get_window_extent().x1 < axes.bbox.x1 for number in axes.texts)
