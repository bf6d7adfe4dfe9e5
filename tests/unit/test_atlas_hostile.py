"""Pages of pairs, series, vectors, recipes and kinship whose every text is somebody else's, in a real browser."""

import pytest
from atlas_results import HOSTILE, write_shared
from hostile_pages import SHOWN, write_hostile_pages
from watched_browser import opened, plotted, started

from weight_atlas.pages.step_costs import write_step_costs

pytestmark = pytest.mark.slow

TITLES = dict.fromkeys(SHOWN, "own · weight-atlas") | {"index": "weight-atlas"}
# What would be there if a text were taken for HTML: elements, addresses that run, handlers of events.
MADE = """() => [...document.querySelectorAll(
  "img[src=x], script:not([src]):not([type]), [href^='javascript:'], [onerror]")].map(each => each.outerHTML)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    results = tmp_path_factory.mktemp("hostile") / "results"
    results.mkdir()
    made = write_hostile_pages(results)
    write_shared(results)
    write_step_costs(results.parent / "benchmarks", results / "atlas")
    return made


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.mark.parametrize("kind", [*SHOWN, "index"])
def test_texts_of_others_stay_texts_on_every_kind_of_page(browser, pages, kind):
    with opened(browser, pages[kind]) as page:
        for figure in page.locator("figure.plot").all():
            plotted(figure)
        for details in page.locator("details").all():
            details.evaluate("each => (each.open = true)")
        shown = ""
        for table in page.locator("details.table").all():
            table.scroll_into_view_if_needed()
            table.locator("tbody tr").first.wait_for()
            everything = table.locator("button", has_text="All columns")
            if everything.count():
                everything.click()
            for opener in table.locator("tbody tr .opener").all():
                opener.click()
            shown += table.locator("table").inner_text()
        for text in HOSTILE[:2]:
            assert text in shown
        assert "U+202E" in shown and "U+001B" in shown and "U+2028" in shown
        assert page.evaluate(MADE) == [] and page.title() == TITLES[kind]
