"""The page says what the tables say."""

import numpy as np
import pandas as pd

from weight_atlas import metrics
from weight_atlas.artifacts import write_json, write_table
from weight_atlas.pages.collect import collected
from weight_atlas.pages.excerpts import labels, shown
from weight_atlas.pages.headline import headline
from weight_atlas.pages.page import Excerpt, Product, markdown_table, model_page, overview_page, title_of
from weight_atlas.super_weights.agreement import COLUMNS as AGREEMENT_COLUMNS
from weight_atlas.super_weights.artifact import COLUMNS as WEIGHT_COLUMNS
from weight_atlas.super_weights.expert_table import COLUMNS as EXPERT_COLUMNS
from weight_atlas.super_weights.verification import COLUMNS as VERDICT

# What super_weight_verification writes: the verdict's table and what is left of the stream.
VERDICT_COLUMNS = (*VERDICT, "residual_before", "residual_after", "residual_after_all", "found_by")


def test_headline_reads_the_tables():
    tables = {
        "token_counts": {
            "text.json": {"tokens": 1000, "documents": 3, "coverage_rank": {"50%": 7}, "unseen": 5, "vocabulary": 50}
        },
        "effective_rank": {
            "m.csv": pd.DataFrame(
                {
                    "role": ["W_E", "W_Q", "W_Q", "W_K"],
                    "layer": [None, 0, 1, 0],
                    "erank_relative": [0.1, 0.5, 0.7, 0.25],
                    "status": "ok",
                }
            )
        },
        "super_weights": {
            "m.csv": pd.DataFrame({"layer": [1], "row": [7], "column": [11], "component": ["mlp.down_proj"]})
        },
        "ablation_perplexity": {
            "m.csv": pd.DataFrame(
                {
                    "corpus": "text",
                    "variant": ["baseline", "mine: zeroed", "mine: random 1"],
                    "ablation": ["baseline", "mine", "mine"],
                    "targets": [None, "detected", "detected"],
                    "kind": ["baseline", "zero", "random"],
                    "perplexity": [50.0, 5e5, 50.5],
                    "ratio": [1.0, 1e4, 1.01],
                    "severity": ["minimal", "catastrophic", "minimal"],
                    "magnitude_ratio": [None, 1.0, 0.3],
                    "weights": [0, 1, 1],
                    "documents": 30,
                    "tokens": 8190,
                    "delta_nll": np.log([1, 1e4, 1.01]),
                    "delta_nll_low": np.log([1, 9e3, 1.0]),
                    "delta_nll_high": np.log([1, 1.1e4, 1.02]),
                }
            )
        },
    }
    rows = dict(headline(tables))
    assert rows["tokens of text"].startswith("1,000 in 3 documents; 7 tokens make half")
    assert rows["effective rank, share of a Gaussian matrix's"] == "W_Q 0.60, W_K 0.25 (median over layers)"
    assert rows["candidates for super weights, not verified"] == "layer 1 mlp.down_proj [7, 11]"
    without = rows["without the detected weights"]
    assert without == (
        "500,000: 10,000 times (95 %: 9,000 to 11,000), catastrophic, on 8,190 tokens of 30 documents; "
        "random weights (0.3 of the size): at most 1.01 times"
    )
    assert "the same removal on other text" not in rows
    verification = verified("critical", "critical")
    verification["m.json"] |= {"text": "1,024 tokens of 16 documents, in windows of 256", "joint": None}
    verification["m.json"]["super_weights"][0] |= {
        name: np.log(factor) for name, factor in (("delta_nll", 8e3), ("delta_nll_low", 7e3), ("delta_nll_high", 1e4))
    }
    card = {"delta_loss": [np.log(2e4)], "delta_loss_ci_2.5": [np.log(1e4)], "delta_loss_ci_97.5": [np.log(3e4)]}
    suspect = {**verification["m.json"]["super_weights"][0], "found_by": ["attribution"], "delta_nll": 0.0}
    verification["m.json"]["super_weights"].append(suspect)
    beside = {"super_weight_verification": verification, "super_weight_cards": {"m.csv": pd.DataFrame(card)}}
    assert dict(headline({**tables, **beside}))["the same removal on other text"] == (
        "super_weight_verification 8,000 times (95 %: 7,000 to 10,000), on 1,024 tokens of 16 documents, in windows "
        "of 256; super_weight_cards 20,000 times (95 %: 10,000 to 30,000), on the passages of windows"
    )


def test_roles_of_zeros_have_no_effective_rank_in_the_headline():
    ranks = pd.DataFrame({"role": ["lora_A", "lora_B"], "layer": 0, "erank_relative": [0.5, None], "status": "ok"})
    ((_, value),) = headline({"effective_rank": {"m.csv": ranks}})
    assert value == "lora_A 0.50 (median over layers)"
    assert headline({"effective_rank": {"m.csv": ranks[1:]}}) == []


def test_headline_says_none_found_and_skips_what_is_absent():
    empty = pd.DataFrame({"layer": [], "row": [], "column": [], "component": []})
    assert headline({"super_weights": {"m.csv": empty}, "effective_rank": {}}) == [
        ("candidates for super weights, not verified", "none found")
    ]


def verified(verdict, *verdicts, found_by="contribution"):
    """The artifact of a verification, one weight for each verdict."""
    records = [{"layer": 1, "component": "mlp.down_proj", "expert_id": None, "row": 7, "column": column,
                "verdict": each, "found_by": [found_by]} for column, each in enumerate(verdicts)]  # fmt: skip
    return {"m.json": {"verdict": verdict, "super_weights": records, "findings": []}}


def test_headline_follows_the_verdict_and_names_decoys():
    table = pd.DataFrame({"layer": [1], "row": [7], "column": [0], "component": ["mlp.down_proj"]})

    def said(*verdicts, **more):
        return headline({"super_weights": {"m.csv": table}, "super_weight_verification": verified(*verdicts, **more)})

    assert said("critical", "inert", "critical", "inconclusive") == [
        ("super weights", "layer 1 mlp.down_proj [7, 1] (critical); layer 1 mlp.down_proj [7, 2] (inconclusive)"),
        ("decoys: massive activations, removal harmless", "layer 1 mlp.down_proj [7, 0]"),
    ]
    nothing = "none found where it was searched (see the findings)"
    assert said("not confirmed", "inert")[0] == ("super weights", nothing)
    assert said("none found") == [("super weights", nothing)]
    (only,) = said("critical together", "inert", "inert")
    assert only[1].startswith("2 weights, critical together only: layer 1 mlp.down_proj [7, 0]; ")
    assert said("critical", "critical", found_by="screening")[0][1].endswith("(critical, found by its size)")


def test_the_headline_writes_large_numbers_as_powers_of_ten():
    table = pd.DataFrame(
        {"corpus": "text", "ablation": ["baseline", "mine"], "targets": [None, "detected"],
         "kind": ["baseline", "zero"], "perplexity": [50.0, 3.2e130], "ratio": [1.0, 6.4e128],
         "severity": ["minimal", "catastrophic"],
         "magnitude_ratio": [None, 1.0], "weights": [0, 1], "documents": 1, "tokens": 900,
         "delta_nll": np.log([1, 6.4e128]), "delta_nll_low": np.nan, "delta_nll_high": np.nan}
    )  # fmt: skip
    rows = dict(headline({"ablation_perplexity": {"m.csv": table}}))
    assert rows["without the detected weights"] == "10^131: 10^129 times, catastrophic, on 900 tokens of 1 documents"


def test_headline_tells_experts_apart_and_leaves_weights_by_hand_out():
    found = pd.DataFrame({"layer": [1], "row": [7], "column": [11], "component": ["mlp.experts"], "expert_id": [3]})
    ablations = pd.DataFrame(
        {
            "corpus": "text", "ablation": ["baseline", "hand"], "targets": [None, "given"],
            "kind": ["baseline", "zero"], "perplexity": [5.0, 9.0], "ratio": [1.0, 1.8],
            "severity": ["minimal", "moderate"],
        }
    )  # fmt: skip
    rows = headline({"super_weights": {"m.csv": found}, "ablation_perplexity": {"m.csv": ablations}})
    where = "layer 1 mlp.experts expert 3 [7, 11]"
    assert rows == [("candidates for super weights, not verified", where), ("perplexity", "5.00 on text")]


def test_page_has_a_section_a_product_with_figures_tables_and_files():
    product = Product(
        "effective_rank",
        "How to read it.",
        ["../a/m.png"],
        ["../a/m.csv"],
        ["../a/m/1.png"],
        {"By role": Excerpt(pd.DataFrame({"x": [1]}))},
    )
    text = model_page("m", [("a", "b")], [], [product])
    assert text.startswith("# Atlas of m\n\n| what")
    for part in (
        "## Effective rank",
        "How to read it.",
        "![Effective rank](../a/m.png)",
        "[a/m.csv](../a/m.csv)",
        "**By role**",
    ):
        assert part in text


def test_tables_are_readable():
    table = pd.DataFrame({"a": [1.23456789, float("nan"), 123456.7], "b": ["x|y", None, "z\nw"], "c": [1234567, 1, 2]})
    text = markdown_table(table)
    assert "1.235" in text and "nan" not in text and "123,457" in text
    assert "x\\|y" in text and r"`'z\nw'`" in text and "1,234,567" in text
    assert title_of("w_down_svd") == "W down svd"


def test_small_tables_are_shown_whole_and_others_in_part():
    small = pd.DataFrame({"a": range(16), "b": 1})
    part, left = shown(small, None)
    assert part.equals(small) and left == ""
    assert shown(pd.DataFrame({"a": range(17)}), None) is None
    assert shown(small.iloc[:0], None) is None
    part, left = shown(pd.DataFrame([range(20)]), None)
    assert list(part.columns) == list(range(16)) and left == "16 of 20 columns"


def test_of_a_wide_table_the_columns_are_shown_that_answer_most():
    """Keys, then what can be unusual, then other numbers; nulls and words last, and nothing that is empty."""
    registered = metrics.of("effective_rank")
    columns = [*registered.keys.values(), *registered.by_column, *registered.words]
    part, left = shown(pd.DataFrame([dict.fromkeys(columns, 1.0)]), registered)
    assert len(part.columns) == 16 and left == f"16 of {len(columns)} columns"
    assert {"id", "condition", "erank", "stable_rank"} <= set(part.columns)
    assert not {"erank_null", "condition_null", "sigma_max", "status"} & set(part.columns)
    assert [column for column in columns if column in part.columns] == list(part.columns), "in their order"
    part, _ = shown(pd.DataFrame([{**dict.fromkeys(columns, 1.0), "condition": None}]), registered)
    assert "condition" not in part.columns
    narrow = pd.DataFrame([dict.fromkeys(columns[:10], None)])
    assert len(shown(narrow, registered)[0].columns) == 10


def test_the_notes_of_rows_are_shown_wherever_they_stand():
    wide = pd.DataFrame({**{f"c{i}": [1] for i in range(20)}, "note": ["too long for the context"]})
    part, left = shown(wide, None)
    assert list(part.columns) == [*(f"c{i}" for i in range(16)), "note"] and left == "17 of 21 columns"
    assert shown(wide.assign(note=None), None)[1] == "16 of 21 columns"


def test_the_page_shows_super_weights_verdicts_and_agreement_row_by_row(tmp_path):
    """As the steps write them: wider than a page, so that columns are chosen, and longer than other tables."""
    results = tmp_path / "results"
    weights = pd.DataFrame([{**dict.fromkeys(WEIGHT_COLUMNS), "layer": 1, "row": 7, "column": n, "share": 0.25,
                             "original_value": 7.5, "found_by": "contribution"} for n in range(20)])  # fmt: skip
    verdicts = pd.DataFrame([{**dict.fromkeys(VERDICT_COLUMNS), "layer": 1, "row": 7, "column": 11, "ratio": 5614.0,
                              "verdict": "critical", "null_draws": 50, "exceed_share": 0.0123}])  # fmt: skip
    agreement = pd.DataFrame([{**dict.fromkeys(AGREEMENT_COLUMNS, "x"), "layer": 1, "found": True}])
    experts = pd.DataFrame([{**dict.fromkeys(EXPERT_COLUMNS, 1), "expert": n, "candidate": n == 70,
                             "super_expert": n == 90} for n in range(128)])  # fmt: skip
    write_table(results / "super_weights/m.csv", weights)
    write_table(results / "super_weights/m.agreement.csv", agreement)
    write_table(results / "super_weight_verification/m.csv", verdicts)
    write_table(results / "expert_routing/m.csv", experts)
    captions = [tmp_path / f"{name}.rst" for name in ("super_weights", "super_weight_verification", "expert_routing")]
    for caption in captions:
        caption.write_text("How to read it.\n")
    products = [product for product, _ in collected(captions, sorted(results.rglob("*.csv")), results)]
    text = model_page("m", [], [], products)
    found, agreed = products[0].tables["M (6 of 31 columns)"].rows, products[0].tables["M.agreement"].rows
    assert found.column.tolist() == list(range(20)) and (found.share == 0.25).all()
    assert agreed.found.tolist() == [True]
    assert "critical" in text and "5614" in text and "0.0123" in text
    assert "`ratio`: factor on perplexity; " in text
    assert "`exceed_share`: share of the null that does as much harm" in text
    (shown_experts,) = products[2].tables.values()
    assert shown_experts.rows.expert.tolist() == [70, 90]


def test_of_too_many_rows_the_most_unusual_are_shown_in_their_order():
    strengths = [1.0, None, *range(100, 151), 2.0]
    rows = {**dict.fromkeys(EXPERT_COLUMNS, 1), "super_expert": True, "contribution_ratio": strengths}
    part, left = shown(pd.DataFrame(rows), metrics.of("expert_routing"))
    assert part.contribution_ratio.tolist() == list(range(111, 151)) and left.startswith("40 of 54 rows")


def test_columns_are_explained_but_for_bounds_and_names_that_say_it():
    registered = metrics.of("super_weight_verification")
    told = labels(pd.DataFrame(columns=["layer", "verdict", "delta_nll", "delta_nll_low", "rescue"]), registered)
    undone = "rise of the loss that keeping it undoes (nats per token)"
    assert told == {"delta_nll": "rise of the loss (nats per token)", "rescue": undone}
    excerpt = Excerpt(pd.DataFrame({"kl": [0.5], "ratio": [2.0], "size": [1.0]}), {"kl": "KL of *a*", "size": "size"})
    text = model_page("m", [], [], [Product("cascade", "", tables={"M": excerpt})])
    assert text.endswith("|\n\n`kl`: KL of \\*a\\*.\n")
    assert labels(pd.DataFrame({"x": [1]}), None) == {}


def test_findings_have_their_remedy_and_link_to_their_evidence():
    found = [
        {
            "grade": "critical",
            "text": "all",
            "remedy": "<stop>",
            "evidence": {"file": "a/m.csv", "rows": [3, *range(6)]},
        },
        {"grade": "notable", "text": "some", "remedy": "", "evidence": {"file": "b/m.json", "rows": [0]}},
        {"grade": "info", "text": "nothing"},
    ]
    assert model_page("m", [], found, []) == (
        "# Atlas of m\n\n- **critical**: all\n  - What to do: `<stop>`\n"
        "  - Evidence: [a/m.csv](../a/m.csv), rows 3, 0, 1, 2, 3 ...\n"
        "- **notable**: some\n  - Evidence: [b/m.json](../b/m.json)\n- **info**: nothing\n"
    )


def test_products_are_collected_from_files(tmp_path):
    caption = tmp_path / "ranks.rst"
    caption.write_text("How to read it.\n")
    results = tmp_path / "results"
    write_table(results / "ranks/m.csv", pd.DataFrame({"x": [1]}))
    write_json(results / "ranks/m.json", {"findings": []})
    (results / "ranks/m.figures").mkdir()
    (results / "ranks/m.figures/1.png").write_bytes(b"")
    (results / "ranks/m.png").write_bytes(b"")
    paths = sorted((results / "ranks").iterdir())
    ((product, contents),) = collected([caption], [*paths, results / "other/m.csv"], results)
    assert product.figures == ["../ranks/m.png"] and product.more == ["../ranks/m.figures/1.png"]
    assert product.files == ["../ranks/m.csv", "../ranks/m.json"]
    assert set(contents) == {"m.csv", "m.json"} and list(product.tables) == ["M"]


def test_the_overview_links_every_model_and_shows_comparisons():
    models = {
        "a": {
            "page": "../atlas/a.md",
            "headline": [("perplexity", "5")],
            "findings": [{"grade": "info", "text": "no"}],
        },
        "b": {"page": "../atlas/b.md", "headline": [("super weights", "none found")], "findings": []},
    }
    text = overview_page(models, [Product("comparison", "Side by side.", ["../comparison/models.png"])])
    assert "| vector" not in text
    said = {"page": "../vector_page/v.md", "headline": [("token weights", "mean 1")], "findings": []}
    with_vectors = overview_page(models, [], vectors={"v": said})
    assert "\n\n| vector  " in with_vectors
    assert "[v](../vector_page/v.md)" in with_vectors
    head, _, first, second = [line for line in text.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == ["model", "perplexity", "super weights"]
    assert "[a](../atlas/a.md)" in first and "5" in first and "none found" in second
    assert "## [a](../atlas/a.md)\n\n- **info**: no" in text and "## [b]" not in text
    assert "![Comparison](../comparison/models.png)" in text
