"""Plots are images for the asset pages; a measure that no domain has is said, not drawn."""

import base64

from promptcot_assets.reports import plots

POINT = {"series": "em", "round": 1, "domain": "maths", "metric": "iw_bound", "value": -3.0, "standard_error": 0.1}


def test_curves_are_one_png() -> None:
    drawn = plots.em_curves([POINT, POINT | {"round": 2, "value": -2.0}])
    image = base64.b64decode(drawn.partition("base64,")[2].rstrip(")"))
    assert image.startswith(b"\x89PNG")


def test_a_measure_that_no_domain_has_is_said() -> None:
    assert plots.em_curves([POINT], "well_posed") == "*well_posed is not measured in any domain*"
