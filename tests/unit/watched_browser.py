"""A real browser whose pages may say, ask and show nothing that they should not."""

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from weight_atlas.artifacts import read_table

SCRIPT = Path(__file__).parents[1] / "browser.sh"
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# What the marks of a chart were drawn from, each once.
MARKS = """holder => {
  const found = new Map();
  const walk = (item) => {
    if (item.datum && "row" in item.datum) found.set(item.datum.row, item.datum);
    (item.items ?? []).forEach(walk);
  };
  walk(holder.view.scenegraph().root);
  return [...found.values()].map(({ row, x, y, value, by, rows }) => ({ row, x, y, value, by, rows }));
}"""

# Of pages below the first one.
FOLDERS = ("models", "pairs", "series", "vectors")


@contextmanager
def started():
    """A headless Chromium; tests/browser.sh finds or installs one."""
    path = subprocess.run(["bash", SCRIPT], check=True, capture_output=True, text=True).stdout.strip()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def opened(browser, file: Path | str, hash: str = "", *, width: int = 1280, theme: str = "light", **options):
    """A page from the disk, ready; on leaving, nothing was printed, failed, asked of a network, or scrolls sideways.

    file: or the address of a page that is served, whose server alone may be asked.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((file if isinstance(file, str) else file.as_uri()) + hash)
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    page.wait_for_timeout(100)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    inside = "/".join(file.split("/")[:3]) if isinstance(file, str) else _folder(file)
    outside = [url for url in asked if not url.startswith((inside, "data:", "blob:"))]
    context.close()
    assert said == [] and outside == [] and wide <= 0, (said, outside, wide)


def _folder(file: Path) -> str:
    """The address of the atlas that a page lies in."""
    return file.parents[1 if file.parent.name in FOLDERS else 0].as_uri()


def plotted(figure):
    """What is drawn in a chart of a section, after scrolling to it: {row, x, y, value, by, rows} a mark."""
    figure.scroll_into_view_if_needed()
    figure.locator("xpath=self::*[contains(@class, 'ready')]").wait_for()
    holder = figure.locator(".drawing")
    return holder.evaluate(MARKS) if holder.is_visible() else []


def looked_through(page, results):
    """Open all that can be opened, wait until it is drawn, compare it with the tables; the number of marks drawn."""
    marks = sum(_drawn_right(figure, page, results) for figure in page.locator("figure.plot").all())
    for details in page.locator("details.table, details.caption").all():
        details.evaluate("each => (each.open = true)")
    for table in page.locator("details.table").all():
        table.scroll_into_view_if_needed()
        table.locator("table").wait_for()
    return marks


def _drawn_right(figure, page, results):
    """Whether each mark of a chart has the number of its row in the table; how many marks there are."""
    marks, about = plotted(figure), json.loads(figure.get_attribute("data-chart"))
    column = figure.get_attribute("data-drawn").split()[0]
    file = page.locator(f'details[data-key="{about["key"]}"]').get_attribute("data-file")
    if about["kind"] in ("stack", "histogram", "tree"):  # of many rows together
        assert figure.locator("svg path").count() > 2, file
        return 0
    assert marks or figure.locator("text=There is no number").count(), file
    if about["rows"] < about["of"]:
        return len(marks)
    values = read_table(results / file)[column].astype(float)
    for mark in marks:
        if mark.get("rows", 1) == 1:  # else a median
            drawn = mark["y"] if about["kind"] == "points" else mark["value"]
            assert drawn == pytest.approx(values[mark["row"]], rel=1e-12), (file, column, mark)
    return len(marks)
