"""The Dagster UI as a person uses it: pages, the dialog that launches runs, what is to be seen meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect as Box
    from playwright.sync_api import Locator, Page

SHOWN_MS = 60_000.0  # until a page that does not show what it knows counts as wrong
WIDTH, HEIGHT = 1400, 900


class DagsterUi:
    """One browser tab on a Dagster UI."""

    def __init__(self, page: Page, url: str, screenshots: Path | None) -> None:
        self.page, self._url, self._screenshots = page, url, screenshots
        page.set_default_timeout(SHOWN_MS)
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})

    def of(self, page: Page) -> DagsterUi:
        """The same for another tab, such as one that a link has opened."""
        page.wait_for_load_state("networkidle")
        return DagsterUi(page, self._url, self._screenshots)

    def open(self, path: str) -> None:
        self.page.goto(self._url + path)
        self.page.wait_for_load_state("networkidle")

    def shows(self, text: str | re.Pattern[str]) -> Locator:
        """The first element with this whole text (or a match of the pattern), once it is visible."""
        found = self.page.get_by_text(text, exact=True).first
        found.wait_for()
        return found

    def open_graph(self) -> None:
        self.open("/asset-groups")
        self.page.get_by_role("button", name="Materialize all").wait_for()

    def boxes(self, groups: Iterable[str]) -> dict[str, Box]:
        """Where the names of groups stand on the graph."""
        graph, found = self.page.locator("svg"), {}
        for group in groups:
            box = graph.get_by_text(group, exact=True).first.bounding_box()
            assert box, f"{group} is not on the screen"
            found[group] = box
        return found

    def unfold(self, group: str, asset: str) -> None:
        """Show the assets of a group on the graph, and beside it what one of them is."""
        graph = self.page.locator("svg")
        graph.get_by_text(group, exact=True).first.click()
        graph.get_by_text(asset, exact=True).first.click()
        self.shows("View in Asset Catalog")

    def open_asset(self, name: str, view: str = "overview", partition: str | None = None) -> None:
        at = f"&partition={partition}" if partition else ""
        self.open(f"/assets/{name}?view={view}{at}")
        self.shows(name)

    def open_plot(self) -> Box:
        """Open the first plot of the page; where its dialog stands, without the page behind it, which has paths."""
        self.shows("[Show Markdown]").click()
        dialog = self.page.get_by_role("dialog")
        plot = dialog.locator("img")
        plot.wait_for()
        assert plot.evaluate("image => image.naturalWidth") > 200
        box = dialog.bounding_box()
        assert box
        return around([box], margin=24.0)

    def materialize(self) -> str:
        """Materialize the asset whose page is open; the id of the run."""
        self.page.get_by_role("button", name="Materialize").first.click()
        return self._launched()

    def choose_rounds(self, rounds: str) -> None:
        """Ask to materialize the EM asset whose page is open, in rounds such as `[round_01...round_03]`."""
        self.page.get_by_role("button", name="Materialize").first.click()
        self.shows("Additional assets will be materialized")  # a round is one step with all its outputs
        self.page.get_by_role("button", name="Confirm").click()
        dialog = self.page.get_by_role("dialog")
        field = dialog.get_by_placeholder("ex: round_01, round_02")
        field.fill(rounds)
        field.press("Enter")
        dialog.get_by_text(re.compile("^Loading")).first.wait_for(state="hidden")

    def launch(self) -> str:
        """Launch what was chosen; the id of the backfill, or of the run when it is one round."""
        self.page.get_by_role("dialog").get_by_role("button", name=re.compile("^Launch ")).click()
        return self._launched()

    def outcome(self, within_s: float) -> str:
        """How the run or backfill whose page is open ended, once it has."""
        ended = re.compile("^(Success|Succeeded|Failure|Failed|Canceled)$")
        tag = self.page.locator('[class*="BaseTag_baseTag"]').filter(has_text=ended).first
        tag.wait_for(timeout=within_s * 1000)
        return tag.inner_text()

    def shoot(self, name: str, part: Box | None = None) -> None:
        """A screenshot for the documentation, where one was asked for. part: of the page, when not all of it."""
        if self._screenshots is None:
            return
        from PIL import Image

        path = self._screenshots / f"{name}.png"
        self.page.screenshot(path=path, animations="disabled", clip=part)
        with Image.open(path) as image:
            width = min(WIDTH, image.width)
            size = (width, round(image.height * width / image.width))
            image.convert("RGB").resize(size).quantize(128).save(path, optimize=True)

    def _launched(self) -> str:
        """The id behind the "View" link of the message that Dagster shows after a launch."""
        link = self.page.locator('a[href*="/runs/"]').filter(has_text="View").first
        link.wait_for()
        return str(link.get_attribute("href")).split("?")[0].rpartition("/")[2]


def around(boxes: Iterable[Box], margin: float = 60.0) -> Box:
    """What holds all boxes, with a margin."""
    every = list(boxes)
    left, top = min(box["x"] for box in every) - margin, min(box["y"] for box in every) - margin
    right = max(box["x"] + box["width"] for box in every) + margin
    bottom = max(box["y"] + box["height"] for box in every) + margin
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}
