"""Measured changes of token probabilities under an edit, compared with its direct effect on the vocabulary."""

import numpy as np
import pandas as pd

from weight_atlas.vocabulary.prediction_measures import TokenSums


def token_changes(baseline: TokenSums, variant: TokenSums) -> pd.DataFrame:
    """Change of each token's mean probability and mean log-odds over the same contexts, variant minus baseline.

    One row per token id: id, probability, probability_change, log_odds_change.
    """
    if baseline.count != variant.count:
        raise ValueError("baseline and variant are sums over different numbers of contexts")
    (p, odds), (p_after, odds_after) = baseline.means(), variant.means()
    return pd.DataFrame(
        {
            "id": np.arange(len(p), dtype=np.int32),
            "probability": p.numpy(),
            "probability_change": (p_after - p).numpy(),
            "log_odds_change": (odds_after - odds).numpy(),
        }
    )


def strongest_changes(changes: pd.DataFrame, tokens: pd.DataFrame, column: str, k: int = 20) -> dict[str, list[dict]]:
    """The k tokens with the largest rise and the largest fall of a column of `token_changes`.

    tokens: of `token_classes`; special ids are left out. Returns {"up": records, "down": records} with id, tok, str,
    probability, probability_change and log_odds_change, strongest first. Tokens that do not change are left out.
    """
    listed = changes.merge(tokens[["id", "token", "text", "special"]], on="id")
    listed = listed[~listed.special & listed.token.notna()].rename(columns={"token": "tok", "text": "str"})
    fields = ["id", "tok", "str", "probability", "probability_change", "log_odds_change"]
    up = listed[listed[column] > 0].sort_values([column, "id"], ascending=[False, True]).head(k)
    down = listed[listed[column] < 0].sort_values([column, "id"]).head(k)
    return {"up": up[fields].to_dict("records"), "down": down[fields].to_dict("records")}


def agreement(direct: np.ndarray, changes: pd.DataFrame, column: str = "log_odds_change") -> float:
    """Spearman correlation between direct effects (V,) of an edit and measured changes; NaN if either is constant.

    Removing a weight should change logits by minus its effect: the direct effects must have the sign of the edit.
    """
    from scipy.stats import spearmanr

    measured = changes[column].to_numpy()
    if np.ptp(direct) == 0 or np.ptp(measured) == 0:
        return float("nan")
    return float(spearmanr(direct, measured).statistic)
