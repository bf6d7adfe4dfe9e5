"""The atlas in a real browser, driven as somebody would who reads it."""

import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from atlas_results import HOSTILE, write_atlas, write_shared
from watched_browser import opened, plotted, started

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.metrics import metric, tables
from weight_atlas.pages.html.index_page import write_index
from weight_atlas.pages.step_costs import write_step_costs

pytestmark = pytest.mark.slow

VALIDATOR = Path(__file__).parents[1] / "validator.sh"
PLAIN, EXPERTS, OWNED = "plain", "experts", "hostile"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """The folder of an atlas of three models: a small one, one with experts, one whose texts are hostile."""
    results = tmp_path_factory.mktemp("atlas") / "results"
    write_atlas(results, PLAIN)
    write_atlas(results, EXPERTS, experts=8)
    write_atlas(results, OWNED, texts=HOSTILE)
    write_shared(results)
    folder = results / "atlas"
    for name, seconds, cpu in (
        (f"heavy_tail/{PLAIN}", 2, "NA"),
        (f"sparsity/{PLAIN}/part", 10, 3.25),
        ("corpus/a", 9, 9),
    ):
        file = results.parent / f"benchmarks/{name}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{seconds}\t0:00:02\t200.5\t{cpu}\n")
    write_step_costs(results.parent / "benchmarks", folder)
    summaries = [read_json(folder / f"{name}.json") for name in (PLAIN, EXPERTS, OWNED)]
    write_index(folder / "index.html", folder / "index", summaries, [], [], {})
    return folder


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


def page_of(atlas, model):
    return atlas / f"models/{model}.html"


@pytest.mark.parametrize("model", [PLAIN, EXPERTS, OWNED, None])
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_page_opens_without_a_word_a_request_or_a_scroll_to_the_side(browser, atlas, model, width, theme):
    with opened(browser, page_of(atlas, model) if model else atlas / "index.html", width=width, theme=theme) as page:
        for details in page.locator("details").all():
            details.evaluate("each => (each.open = true)")
        page.wait_for_timeout(300)
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 20, 23)"
        assert dark == (theme == "dark")


def test_the_number_of_every_cell_and_metric_is_that_of_the_table(browser, atlas):
    """Walked by the keys, read back from the card."""
    tensors = read_table(atlas.parent / f"tensor_inventory/{PLAIN}.parquet")["id"]
    with opened(browser, page_of(atlas, PLAIN)) as page:
        page.focus("#canvas")
        seen = {}
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        for key in ["ArrowDown", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowDown", "End"]:
            name = page.get_attribute("#card", "data-cell")
            page.locator("#card details.numbers summary", has_text="All numbers").click()
            page.wait_for_selector("#card tr[data-metric]")
            rows = page.locator("#card tr[data-metric]").all()
            seen[name] = {
                row.get_attribute("data-metric"): (
                    row.get_attribute("data-value"),
                    row.locator("td").first.inner_text(),
                )
                for row in rows
            }
            page.focus("#canvas")
            page.keyboard.press(key)
            page.wait_for_selector(f"#card:not([data-cell='{name}'])")
            page.wait_for_selector("#card details.numbers")
    assert len(seen) == 7 and set(seen) <= set(tensors)
    for name, numbers in seen.items():
        for identity, (value, said) in numbers.items():
            known = metric(identity)
            table = read_table(atlas.parent / table_of_metric(identity).replace("{model}", PLAIN)).set_index("id")
            truth = table.loc[name, known.column]
            assert float(value) == pytest.approx(truth, rel=1e-6), (name, identity)
            if not (1e4 <= abs(truth) < 1e9 and known.format.endswith("g")):
                assert said.replace("−", "-") == known.written(truth).replace("inf", "∞"), (name, identity)


def table_of_metric(identity):
    return next(table.file for table in tables().values() if identity.rpartition(".")[0] == table.name)


def test_a_picked_metric_and_an_opened_cell_are_in_the_address_which_restores_them(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        page.click("#metric")
        page.keyboard.type("kurt")
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-painted='tensor/weight_statistics.kurtosis']")
        assert "median of the role" not in page.inner_text("#legend")  # kurtosis has a null
        page.focus("#canvas")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("#card .big")
        cell, value = page.get_attribute("#card", "data-cell"), page.inner_text("#card .big b")
        address = page.url
    assert "metric=weight_statistics.kurtosis" in address
    with opened(browser, page_of(atlas, PLAIN), "#" + address.partition("#")[2]) as page:
        page.wait_for_selector("#card .big")
        assert page.get_attribute("#card", "data-cell") == cell and page.inner_text("#card .big b") == value
        assert page.input_value("#metric") == metric("weight_statistics.kurtosis").title


def test_heads_have_a_map_and_cards_of_their_own(browser, atlas):
    address = f"#metric=head/{quote('attention_head.erank:QK')}&cell={quote('layer 1 head 2')}"
    heads = read_table(atlas.parent / f"attention_head/{PLAIN}.csv")
    (truth,) = heads.erank[(heads.layer == 1) & (heads["head"] == 2) & (heads.circuit == "QK")]
    with opened(browser, page_of(atlas, PLAIN), address) as page:
        page.wait_for_selector("#card .pair svg")
        assert page.inner_text("#card h3") == "layer 1 head 2"
        assert page.inner_text("#card .big b") == format(truth, ".4g")


def test_a_finding_leads_to_its_cell(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        page.click(".finding.notable a.tocell")
        page.wait_for_selector("#card .big")
        assert page.get_attribute("#card", "data-cell") == "layers.1.norm1" or page.get_attribute("#card", "data-cell")
        assert page.inner_text("#card .marks summary").startswith("1 finding here")
        page.click("#card .close")
        assert page.is_hidden("#card") and "cell=" not in page.url


def test_tables_are_sorted_filtered_and_copied(browser, atlas):
    truth = read_table(atlas.parent / f"weight_statistics/{PLAIN}.csv")
    with opened(browser, page_of(atlas, PLAIN)) as page:
        table = page.locator("#weight_statistics details.table").first
        table.scroll_into_view_if_needed()
        if not table.evaluate("each => each.open"):
            table.locator("summary").click()
        table.locator("tbody tr").first.wait_for()
        table.locator("thead button", has_text="kurtosis").click()
        first = table.locator("tbody tr").first.get_attribute("data-row")
        assert int(first) == truth["kurtosis"].idxmax()
        table.locator("input[type=search]").fill("layers.1. w_q")
        assert table.locator("tbody tr").count() == truth.id.str.contains(r"layers\.1\.W_Q", regex=True).sum()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        table.locator("button", has_text="Copy as CSV").click()
        page.wait_for_selector("text=Copied")
        copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0].startswith("id,role") and len(copied) == 3
    assert {line.split(",")[0] for line in copied[1:]} == {"layers.1.W_Q", "layers.1.W_Q.bias"}


def test_an_opened_row_is_in_the_address_which_restores_it(browser, atlas):
    truth = read_table(atlas.parent / f"weight_statistics/{PLAIN}.csv")
    last = truth.id.iloc[-1]
    with opened(browser, page_of(atlas, PLAIN)) as page:
        table = page.locator("#weight_statistics details.table").first
        table.scroll_into_view_if_needed()
        table.locator("tbody tr").first.wait_for()
        table.locator("tbody tr").last.locator(".opener").click()
        address = f"#{page.url.partition('#')[2]}"
    assert address.endswith(f"row={last}")
    with opened(browser, page_of(atlas, PLAIN), address) as page:
        page.wait_for_selector("#weight_statistics .rowcard")
        assert last in page.inner_text("#weight_statistics .rowcard")
        assert page.evaluate("scrollY") > 500
        page.evaluate("location.hash = location.hash.replace(/row=.*/, 'row=gone')")
        assert page.locator("#weight_statistics .rowcard").count() == 1


def test_all_charts_are_drawn_before_the_page_is_printed(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        # A block, since a function that is the value of an expression is called at once.
        page.evaluate(
            """() => {
              const drawn = () => document.querySelectorAll("figure.plot svg").length;
              window.print = () => (document.body.dataset.printed = drawn());
            }"""
        )
        page.locator("header button", has_text="Print").click()
        page.wait_for_selector("body[data-printed]")
        assert int(page.locator("body").get_attribute("data-printed")) == page.locator("figure.plot").count() > 1


def test_charts_of_sections_draw_the_numbers_of_the_tables(browser, atlas):
    ranks = read_table(atlas.parent / f"effective_rank/{PLAIN}.csv")
    heads = read_table(atlas.parent / f"attention_head/{PLAIN}.csv")
    with opened(browser, page_of(atlas, PLAIN)) as page:
        assert page.locator("figure.plot svg").count() == 0, "drawn when they are scrolled to"
        lines = plotted(page.locator("#effective_rank figure.plot"))
        cells = plotted(page.locator("#attention_head figure.plot").first)
        choices = page.locator("#effective_rank .plot select").last.locator("option").all_inner_texts()
        page.locator("#attention_head .plot select").first.select_option(label="OV")
        page.wait_for_selector("#attention_head figure[data-drawn^='erank OV']")
        others = plotted(page.locator("#attention_head figure.plot").first)
    drawn = ranks[ranks.layer.notna()].groupby(["layer", "role"]).erank_relative.median()
    assert {(each["x"], each["by"]): each["value"] for each in lines} == pytest.approx(dict(drawn), rel=1e-12)
    assert choices == [metric(f"effective_rank.{each}").title for each in ("erank", "erank_relative")]
    for circuit, found in (("QK", cells), ("OV", others)):
        assert len(found) == (heads.circuit == circuit).sum()
        for each in found:
            row = heads.loc[each["row"]]
            assert (row.circuit, row.layer, row["head"]) == (circuit, each["y"], each["x"])
            assert each["value"] == pytest.approx(row.erank, rel=1e-12)


def test_a_chart_begins_with_its_own_part_or_one_in_which_the_number_moves(browser, atlas):
    columns = {
        "step": [0, 1] * 3, "metric": ["still", "still", "moves", "moves", "last", "last"],
        "role": ["a", "a"] * 3, "value": [1, 1, 1, 2, 5, 6],
    }  # fmt: skip
    data = {"columns": [{"name": name} for name in columns], "cells": list(columns.values())}
    about = {"kind": "lines", "x": "step", "y": "value", "by": "role", "split": ["metric"]}
    begun = """([about, data]) => {
      const plot = new Plot(document.createElement("figure"), about, data);
      plot.split();
      return plot.parts.metric;
    }"""
    with opened(browser, page_of(atlas, PLAIN)) as page:
        plotted(page.locator("#effective_rank figure.plot"))  # which loads the script
        assert page.evaluate(begun, [about, data]) == "moves"
        assert page.evaluate(begun, [{**about, "first": {"metric": "last"}}, data]) == "last"
        assert page.evaluate(begun, [{**about, "first": {"metric": "gone"}}, data]) == "moves"
        data["cells"][1] = ["none"] * 2 + [None] * 2 + ["last"] * 2  # a part of its own: rows without one
        data["cells"][3][:2] = [None, None]
        assert page.evaluate(begun, [about, data]) is None


def test_the_gravest_stand_at_the_top_and_what_is_folded_is_shown_where_a_link_leads(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        lines = page.locator(".gravest li:not(.rest)").all_inner_texts()
        assert [line.split(maxsplit=1) for line in lines] == [
            ["notable", "one weight stands out: b"],
            ["critical", "b"],
        ]
        assert page.locator(".gravest .rest").inner_text() == "3 findings in all, 1 critical, 1 notable, 1 info"
        folded = page.locator("#findings .lesser .finding")
        assert not folded.is_visible()
        name = folded.get_attribute("id")
        page.evaluate(f"location.hash = '{name}'")
        folded.wait_for()
    with opened(browser, page_of(atlas, PLAIN), f"#{name}") as page:
        assert page.locator(f"#{name}").is_visible()


def test_a_cell_of_a_chart_leads_to_its_card(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        plotted(page.locator("#attention_head figure.plot").first)
        page.locator("#attention_head .plot .mark-rect path").first.click()
        page.wait_for_selector("#card .pair svg")
        assert page.inner_text("#card h3") == "layer 0 head 0"
        assert "metric=head%2Fattention_head.erank%3AQK" in page.url


def test_what_steps_took_is_loaded_when_it_is_asked_for(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        page.locator("details.steps summary").click()
        page.wait_for_selector("details.steps tbody tr")
        assert page.locator("details.steps tbody tr").count() == 2, "those of this model"
        assert page.inner_text("details.steps p").startswith("2 steps took 12 s one after the other, 3.25 s of CPU")


def test_the_theme_is_switched(browser, atlas):
    with opened(browser, page_of(atlas, PLAIN)) as page:
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.get_attribute("html", "data-theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_texts_of_others_are_shown_and_never_run(browser, atlas):
    with opened(browser, page_of(atlas, OWNED)) as page:
        assert page.title() == f"{OWNED} · weight-atlas"
        table = page.locator("#neuron_effects details.table").first
        table.scroll_into_view_if_needed()
        if not table.evaluate("each => each.open"):
            table.locator("summary").click()
        table.locator("tbody tr").first.wait_for()
        shown = table.locator("tbody").inner_text()
        for text in HOSTILE[:2]:
            assert text in shown
        assert "U+202E" in shown and "U+001B" in shown and "U+2028" in shown
        page.click(".finding.critical a.tocell")
        page.wait_for_selector("#card .big")
        assert HOSTILE[0] in page.inner_text("#card h3")
        assert page.locator("img[src=x], script:not([src]):not([type])").count() == 0
        assert page.title() == f"{OWNED} · weight-atlas"


def test_models_lie_side_by_side(browser, atlas):
    with opened(browser, atlas / "index.html") as page:
        assert page.locator(".model").count() == 3
        assert page.locator("#scatter-chart svg").count() == 1 and page.locator("#depth-chart svg").count() == 1
        page.click("#depth-metric")
        page.keyboard.type("kurtosis")
        page.keyboard.press("Enter")
        page.wait_for_selector("#depth-chart[data-label^='excess kurtosis']")
        assert "metric=weight_statistics.kurtosis" in page.url
        page.locator("#table a", has_text=EXPERTS).click()
        page.wait_for_selector("#canvas")
        assert page.url.endswith(f"models/{EXPERTS}.html")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("model", [EXPERTS, None])
def test_axe_finds_nothing_serious(browser, atlas, model, theme):
    from axe_core_python.sync_playwright import Axe

    file = page_of(atlas, model) if model else atlas / "index.html"
    with opened(browser, file, theme=theme, bypass_csp=True) as page:
        if model:
            page.click(".finding.critical a.tocell")
            page.wait_for_selector("#card details.numbers")
        found = Axe().run(page)["violations"]
    grave = [
        (each["id"], each["nodes"][0]["html"][:200]) for each in found if each["impact"] in ("serious", "critical")
    ]
    assert grave == []


def test_pages_validate(atlas):
    """By the W3C's own validator, hostile texts and all."""
    found = subprocess.run(["bash", VALIDATOR], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"the validator of HTML needs Java and npm: {found.stderr[-300:]}")
    pages = [
        *(page_of(atlas, name) for name in (PLAIN, EXPERTS, OWNED)),
        atlas / "index.html",
        atlas / "assets/metrics.html",
    ]
    command = ["java", "-jar", found.stdout.strip(), "--errors-only", *map(str, pages)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == "" and done.returncode == 0
