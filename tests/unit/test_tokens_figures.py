import numpy as np
import pandas as pd

from weight_atlas.figures.style import save_figure
from weight_atlas.figures.tokens import token_coverage
from weight_atlas.tokens.coverage import count_summary


def drawn(counts):
    counts = np.asarray(counts)
    return token_coverage(pd.DataFrame({"count": counts}), count_summary(counts, 1), "Title")


def test_the_curves_are_the_cumulative_counts(tmp_path):
    counts = np.random.default_rng(0).zipf(1.5, 300) - 1
    figure = drawn(counts)
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), np.sort(counts).cumsum())
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.sort(counts)[::-1].cumsum() / counts.sum())
    assert {int(line.get_xdata()[0]) for line in left.lines[1:]} == {int((counts < n).sum()) for n in (1, 10, 100)}
    save_figure(tmp_path / "x.png", figure)
    again = drawn(counts)
    save_figure(tmp_path / "y.png", again)
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()


def test_no_tokens_is_a_message(tmp_path):
    figure = drawn([0, 0, 0])
    assert "no tokens" in figure.axes[0].texts[0].get_text()


def test_one_token():
    assert len(drawn([7]).axes) == 2
