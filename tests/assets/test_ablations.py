"""`promptcot ablations` by the real command line, on a tiny profile: one seed, an arm that runs, one that cannot."""

import json
from pathlib import Path

import pytest

from promptcot_assets.tables import open_lake
from tests.assets.arc_runs import ONE_ROUND, PROMPTCOT, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]  # arcs with their pools
ARMS = f"extends: {ONE_ROUND}\nablations: {{{{seeds: [5], arms: {{arms}}}}}}\n"


def test_every_arm_is_measured_beside_em_and_a_stopped_one_says_why(tmp_path: Path) -> None:
    profile, home = tmp_path / "ablations.yaml", tmp_path / "home"
    profile.write_text(ARMS.format(arms="{chance: {selection: random}}"))
    done = run([*PROMPTCOT, "ablations", "--json"], home, PROMPTCOT_PROFILE=str(profile))
    assert done.returncode == 0, done.stderr[-4000:]
    rows = {row["arm"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["cold start", "extra training (control)", "EM", "chance"]
    assert rows["EM"]["em_minus_common"] == rows["EM"]["em_minus_own"] == 0.0
    assert rows["chance"]["stopped"] is None and rows["chance"]["rounds"] == 1

    own = {row["rationale_id"] for row in _winners(home / "seed_5" / "em" / "home")}
    drawn = {row["rationale_id"] for row in _winners(home / "seed_5" / "chance" / "home")}
    assert own and drawn and own != drawn

    # arms that join later, two at a time: of EM's round, which was there before them, they have nothing
    late = "nothing: {cold_start_share: 0}, none: {cold_start_share: 0}"
    profile.write_text(ARMS.format(arms=f"{{chance: {{selection: random}}, {late}}}") + "lanes: 2\n")
    again = run([*PROMPTCOT, "ablations", "--json"], home, PROMPTCOT_PROFILE=str(profile))
    assert again.returncode == 0, again.stderr[-4000:]
    later = {row["arm"]: row for row in json.loads(again.stdout)}
    assert list(later) == [*rows, "nothing", "none"] and later["chance"]["stopped"] is None
    for arm in ("nothing", "none"):
        assert "cold_start_bounds is stopped by its gate" in later[arm]["stopped"] and later[arm]["rounds"] == 0
        assert later[arm]["em_minus_common"] > 50  # an untrained generator


def _winners(home: Path) -> list[dict[str, object]]:
    lake = open_lake(home)
    ref = lake.newest("em_rationales", "round_01")
    assert ref
    return [row for row in lake.table(ref).to_pylist() if row["selected"]]
