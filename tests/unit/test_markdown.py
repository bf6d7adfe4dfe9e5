"""Tokens and names are shown whole, and never taken for Markdown or HTML: checked by rendering."""

import html
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from weight_atlas.markdown import inline
from weight_atlas.pages.page import Excerpt, Product, markdown_table, model_page, overview_page
from weight_atlas.spectra.report_kernels import table as report_table

TOKENS = [
    "<bos>", "</s>", "<s>", "<|endoftext|>", "<!-- x", "<script>alert(1)</script>", "<b>bold</b> and text", "&amp;",
    "\n", "\r", "\r\n", ".\n\n", "a\nb", "\t", "\x00", "\x1b[31m", "\u202egnp", "\u200b", "\u00ad", "\u2028", "\\n",
    "![i](http://evil.example/x.png)", "[a](b)", "[a][b] c", "http://evil.example", "www.evil.example", "a@b.example",
    "|", "a|b", "\\|", "`|`", "`", "``a`", "\\`", "a `b` c", " the", "the ", " ", "   ", "a  b", "*", "**b**",
    "a_", "a_b__c_", "x __y__ z", "(_x_)",
    "~~s~~", "_x_", "__init__", "x _y_ z", "a_b_c", "my_model", "$x$", "# h", "- x", "1. x", "> q", "---", "+ a",
    "\\", "'", '"', "", "nan", "NA", "0012", "1e5", "1,000", "ünï", "中文", "😀", "{{x}}", "%s", "x\\",
    "layer 1 mlp.down_proj [7, 11]; 3 & 4 < 5", "W_Q^T W_K",
]  # fmt: skip


def rendered_cells(text: str) -> list[str]:
    """The HTML of the last cell of each row of the one table in a text."""
    rows = re.findall(r"<tr>(.*?)</tr>", MarkdownIt("gfm-like", {"linkify": False}).render(text), flags=re.S)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.S)[-1] for row in rows[1:]]


def seen(shown: str) -> str:
    """What a reader sees: only code spans may be markup."""
    plain = re.sub(r"</?code>", "", shown)
    assert not re.search(r"<[^>]*>", plain), shown
    return html.unescape(plain)


@pytest.mark.parametrize("write", [markdown_table, lambda frame: report_table(frame.astype(object))])
def test_every_token_is_whole_in_its_cell(write):
    cells = rendered_cells(write(pd.DataFrame({"id": range(len(TOKENS)), "token": TOKENS})))
    assert len(cells) == len(TOKENS)
    for token, shown in zip(TOKENS, cells, strict=True):
        assert seen(shown) in (token, repr(token)), token


@pytest.mark.parametrize("token", TOKENS)
def test_every_token_is_whole_in_a_sentence_and_in_a_heading(token):
    for line in (f"- **info**: {inline(token)}", f"## {inline(token)}"):
        shown = MarkdownIt("commonmark").render(line)
        inner = re.sub(r"^<ul>\n<li><strong>info</strong>: ?|</li>\n</ul>\n?$|^<h2>|</h2>\n?$", "", shown)
        assert seen(inner).strip() in (token, repr(token), token.strip()), shown


def test_an_image_in_a_name_makes_no_image_on_any_page():
    evil = "![i](http://evil.example/x.png)"
    product = Product(
        "ranks",
        "",
        tables={evil: Excerpt(pd.DataFrame({evil: [evil]}), {evil: evil})},
        missing=evil,
        not_applicable=evil,
    )
    about = {"page": "../a.md", "headline": [(evil, evil)], "findings": [{"grade": "info", "text": evil}]}
    texts = [
        model_page("a_b", about["headline"], about["findings"], [product], [(evil, evil)]),
        overview_page({"a_b": {**about, "not_applicable": {"ranks": evil}}}, [product], [(evil, evil)]),
    ]
    for text in texts:
        shown = MarkdownIt("gfm-like", {"linkify": False}).render(text)
        assert "<img" not in shown and "evil.example" in shown
        assert 'href="http' not in shown


def test_names_of_models_keep_their_underscores():
    names = ["a_b_c", "a_", "_".join("abc") + "__d", "x_1.2-y"]
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(
        overview_page({name: {"page": f"../atlas/{name}.md", "headline": [], "findings": []} for name in names}, [])
    )
    assert re.findall(r"<a [^>]*>(.*?)</a>", shown) == names
    assert "<em>" not in shown and "<strong>" not in shown


def test_whole_numbers_stay_whole_beside_floats():
    frame = pd.DataFrame({"Rank": [0, 1], "Real": [0.5, -2.0], "Count": pd.array([3, pd.NA], dtype="Int64")})
    rows = [re.split(r" *\| *", line)[1:-1] for line in report_table(frame, digits=6).splitlines()[2:]]
    assert rows[0] == ["0", "0.500000", "3"] and rows[1][:2] == ["1", "-2.000000"]
