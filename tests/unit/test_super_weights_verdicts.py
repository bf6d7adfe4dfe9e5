"""What makes a verdict: bands of harm, the share of draws that do as much, and what findings then say."""

import math

import numpy as np
import pandas as pd
import pytest

from weight_atlas.live.anatomy import Coordinate
from weight_atlas.super_weights.findings import findings
from weight_atlas.super_weights.verification import (
    Harm,
    Joint,
    Null,
    among_others,
    discovery_rates,
    joint_of,
    judged,
    verdict_of,
)


def judged_by(delta, rate=0.0, special="yes", bands=(1.5, 1.1)):
    return verdict_of(Harm(delta, rate), special, bands)


def test_what_makes_a_verdict():
    assert judged_by(0.41) == judged_by(0.41, special="undecided") == judged_by(0.41, special="unknown") == "critical"
    assert judged_by(0.41, special="no") == "harmful but not special"
    assert judged_by(0.40) == "special but mild"
    assert judged_by(0.40, special="undecided") == judged_by(0.40, special="no") == "mild"
    assert judged_by(0.41, bands=(1.6, 1.1)) == "special but mild"
    # At least the mild band: an effect that is certain but tiny is none.
    assert judged_by(0.096) == "special but mild" and judged_by(0.095) == "inert"
    assert judged_by(0.096, bands=(1.5, 1.2)) == "inert"
    # A large effect that may be chance is neither proven nor harmless.
    assert judged_by(3.0, rate=0.051) == judged_by(0.096, rate=0.5) == "inconclusive"
    assert judged_by(0.095, rate=0.5) == "inert" and judged_by(3.0, rate=0.05) == "critical"
    # A single window has no interval; a loss that is no number any more is harm enough.
    assert judged_by(3.0, rate=float("nan")) == "critical"
    assert judged_by(float("inf"), float("nan")) == judged_by(float("nan"), float("nan")) == "critical"


def test_what_makes_a_verdict_together():
    def with_others(alone, rescue, joint):
        return among_others(alone, rescue, joint, (1.5, 1.1))

    joint = Joint(4.0, "critical", 0.2)
    assert with_others("inert", 0.41, joint) == with_others("mild", 0.41, joint) == "contributing"
    assert with_others("inert", 0.39, joint) == "inert"
    assert with_others("critical", 0.41, joint) == "critical"
    assert with_others("harmful but not special", 0.41, joint) == "harmful but not special"
    assert with_others("inert", 0.41, Joint(4.0, "inert", 0.2)) == with_others("inert", 0.41, None) == "inert"
    # A draw that happens to be as harmful does not make the weight harmless.
    assert with_others("inert", 0.41, Joint(4.0, "critical", 4.5)) == "contributing"
    # A tenth of a small effect is less than the mild band.
    assert with_others("inert", 0.08, Joint(0.5, "critical", 0.0)) == "inert"
    assert with_others("inert", 0.10, Joint(0.5, "critical", 0.0)) == "contributing"


@pytest.mark.parametrize(("share", "special"), [(0.0, {"yes", "undecided"}), (0.01, {"yes", "undecided"}),
                                                (0.5, {"no", "undecided"}), (1.0, {"no"})])  # fmt: skip
def test_whether_a_weight_is_special_does_not_hang_on_the_number_of_draws_or_their_seed(share, special):
    """Of 12, 50 or 150 draws from a null of which a share does as much harm: undecided at worst, never the opposite."""
    words: dict[int, list[str]] = {draws: [] for draws in (12, 50, 150)}
    for draws, said in words.items():
        for seed in range(20):
            random = np.random.default_rng([seed, draws])
            said.append(Null.of(1.0, pd.Series(np.where(random.random(draws) < share, 2.0, 0.001))).special)
    assert {word for said in words.values() for word in said} <= special
    if share == 0.5:
        assert {*words[50], *words[150]} == {"no"} and words[12].count("undecided") <= 3
    else:
        assert len({judged_by(0.7, special=word) for said in words.values() for word in said}) == 1


def test_a_null_is_a_share_with_its_bounds():
    null = Null.of(1.0, pd.Series([0.1] * 48 + [1.0, 5.0]))
    assert (null.share, null.special) == (0.04, "undecided") and null.low < 0.04 < 0.1 < null.high
    assert Null.of(1.0, pd.Series([0.1] * 50)).special == "yes"
    # A share above the limit is no answer while its bound lies below.
    assert Null.of(1.0, pd.Series([0.1] * 10 + [2.0] * 2)).special == "undecided"
    assert Null.of(1.0, pd.Series([0.1] * 8 + [2.0] * 4)).special == "no"
    assert Null.of(1.0, pd.Series([], dtype=float)).special == "unknown"
    # What leaves no number is as harmful as can be.
    assert Null.of(float("nan"), pd.Series([float("inf")] * 50)).share == 0
    assert Null.of(float("inf"), pd.Series([float("inf")] * 50)).share == 1
    rates = discovery_rates(np.array([0.01, float("nan"), 0.04, 0.03]))
    assert np.isnan(rates[1]) and rates[[0, 2, 3]] == pytest.approx([0.03, 0.04, 0.04])


def outcome(*rows):
    """Variants as verify makes them: (kind, candidate, delta_nll) each."""
    table = pd.DataFrame(rows, columns=["kind", "candidate", "delta_nll"])
    delta = table.delta_nll
    return table.assign(delta_nll_low=delta, delta_nll_high=delta, ratio=np.exp(delta), severity="", harm_p=0.0)


def test_both_nulls_stand_beside_the_verdict():
    line = [("row", 0, 1.2), ("column", 0, 1.5)]
    single = [("single", 0, 1.0), *line, ("kept", 0, 3.0), ("single", 1, 0.0), ("joint", pd.NA, 4.0)]
    place = Coordinate(1, 2, 3)

    def row(*null, joint=None):
        return judged(outcome(*single, *null), 0, place, 0.5, joint, (1.5, 1.1), 0.0)

    low = row(("random", 0, 0.1), ("random", 0, 0.3), ("random", 1, 9.0), ("shifted", 0, 0.2), ("shifted", 1, 9.0))
    assert low["verdict"] == "critical" and low["p_value"] == pytest.approx(1 / 3)
    assert (low["null_max"], low["null_median"], low["shift_max"], low["shift_draws"]) == (0.3, 0.2, 0.2, 1)
    assert low["exceeds_null"] and low["shift_p_value"] == 0.5
    assert (low["neuron_delta_nll"], low["row_delta_nll"], low["column_delta_nll"]) == (1.5, 1.2, 1.5)
    # Where the same change was made elsewhere, that decides what is special.
    common = row(("random", 0, 0.1), ("shifted", 0, 1.1))
    assert (common["verdict"], common["exceeds_null"]) == ("harmful but not special", False)
    rare = row(("random", 0, 1.1), ("shifted", 0, 0.1))
    assert (rare["verdict"], rare["exceeds_null"]) == ("critical", False)
    assert row(("random", 0, 1.1))["p_value"] == 1
    together = [("random_together", pd.NA, 0.1), ("shifted_together", pd.NA, 0.2)]
    assert joint_of(outcome(*single, *together), (1.5, 1.1)) == Joint(4.0, "critical", 0.2)
    assert joint_of(outcome(*single, *together[:1], ("shifted_together", pd.NA, 4.1)), (1.5, 1.1)) == Joint(
        4.0, "critical", 4.1
    )
    assert joint_of(outcome(*single, ("random_together", pd.NA, 4.1), *together[1:]), (1.5, 1.1)) == Joint(
        4.0, "critical", 4.1
    )
    assert joint_of(outcome(*single), (99.0, 98.0)) == Joint(4.0, "inert", 0.0)
    assert joint_of(outcome(*single[:4]), (1.5, 1.1)) is None
    # All but the second cost 3 of the 4 that all cost: it rescues 1, and alone it does nothing.
    both = outcome(*single, ("row", 1, 0.0), ("column", 1, 0.0), ("kept", 1, 3.0), ("random", 1, 0.1))
    rescued = judged(both, 1, place, 0.5, Joint(4.0, "critical", 0.2), (1.5, 1.1), 1.0)
    assert (rescued["rescue"], rescued["kept_delta_nll"], rescued["verdict"]) == (1.0, 3.0, "contributing")


def test_findings_are_graded_and_the_gravest_come_first():
    rows = {"layer": 1, "row": 7, "column": [3, 4, 5, 6, 8], "role": "W_down", "component": "", "expert": pd.NA,
            "null_draws": 50, "null_median": 1e-4, "shift_draws": [0, 50, 0, 9, 0],
            "shift_median": [0.01, 0.001, 0.01, 900.0, 0.01], "exceed_share": [0.5, 0.0, 0.0, 4 / 9, 0.02],
            "special": ["no", "yes", "yes", "undecided", "yes"], "found_by": ["contribution"] * 4 + ["screening"],
            "delta_nll": [0.7, math.log(5614), 0.0198, 295.739, 0.01],
            "harm_q": [0.3, 0.0, 0.01, 0.0, 0.01],
            "rescue": [float("nan"), float("nan"), 3.25, float("nan"), float("nan")]}  # fmt: skip
    table = pd.DataFrame(rows)
    table["verdict"] = ["inconclusive", "critical", "contributing", "critical", "inert"]
    found = findings("critical", table, {"weights": 4, "delta_nll": math.log(6000), "null_max": 0.1})
    assert [finding["grade"] for finding in found] == ["critical", "critical", "critical", "notable", "notable", "info"]
    assert found[0]["text"] == (
        "Layer 1 [7, 4] is critical: set to zero it multiplies perplexity on the verification text by 5,614; of 50 "
        "random places for the same change none does as much harm."
    )
    assert found[1]["text"] == (
        "Layer 1 [7, 6] is critical: set to zero it multiplies perplexity on the verification text by 10^128; of 9 "
        "random places for the same change 4 do as much harm, too few to say whether it is special."
    )
    assert found[2]["text"].endswith("multiply perplexity by 6,000, the worst of their random controls by 1.105.")
    assert found[3]["text"].startswith("Layer 1 [7, 3] may matter: set to zero it multiplies perplexity")
    assert found[3]["text"].endswith("but that may be chance (false discovery rate 0.3): more text would tell.")
    assert found[4]["text"].endswith("it undoes 3.25 nats per token of what removing all costs.")
    assert [each["null_value"] for each in found] == [0.001, 900.0, 0.1, 1e-4, 1e-4, 1e-4]
    assert (
        found[0]["place"] == "Layer 1 [7, 4]"
        and found[0]["value"] == math.log(5614)
        and "never prune" in found[0]["remedy"]
    )
    assert found[5]["text"].startswith(
        "Layer 1 [7, 8] is inert: it stood out in the trial, but removing it is harmless"
    )
    assert "All 4 candidates" in found[2]["text"]
