"""Measures of a model's prediction at each position: loss, entropy, margin of the top tokens, stop words."""

from collections.abc import Callable

import pandas as pd
import torch

from weight_atlas.live.language_model import LanguageModel

METRICS = ("loss", "entropy", "topk_margin", "stopword_mass")


def prediction_measure(
    stopwords: torch.Tensor, k: int = 2
) -> Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
    """A measure of predictions for `live.scoring`: logits (n, V), targets (n,) -> METRICS, float32 (n,) each.

    loss: -log p(target), nats. entropy: of the prediction, nats. topk_margin: probability of the likeliest token minus
    that of the k-th likeliest. stopword_mass: total probability of stopwords, a tensor of token ids.
    """

    def measure(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        log_p = torch.log_softmax(logits.float(), dim=-1)
        p = log_p.exp()
        top = p.topk(min(k, p.shape[-1]), dim=-1).values
        return {
            "loss": -log_p.gather(1, targets[:, None]).squeeze(1),
            # Where a probability underflows to zero its logarithm can be -inf; the product is taken as zero.
            "entropy": -(p * log_p.clamp_min(-1e4)).sum(dim=-1),
            "topk_margin": top[:, 0] - top[:, -1],
            "stopword_mass": p[:, stopwords.to(p.device)].sum(dim=-1),
        }

    return measure


def stop_words(model: LanguageModel, tokens: pd.DataFrame) -> torch.Tensor:
    """Ids of function words in a table of `token_classes`, among those that the model predicts."""
    ids = tokens.id[tokens.function_words].to_numpy()
    vocabulary = model.get_output_embeddings().weight.shape[0]
    return torch.from_numpy(ids[ids < vocabulary].astype("int64"))


class TokenSums:
    """Sums over positions of each token's probability and log-odds."""

    def __init__(self, vocabulary: int):
        self.count = 0
        self.probability = torch.zeros(vocabulary, dtype=torch.float64)
        self.log_odds = torch.zeros(vocabulary, dtype=torch.float64)

    def add(self, logits: torch.Tensor) -> None:
        """Count predictions, logits (n, V). Log-odds are log p - log(1 - p)."""
        log_p = torch.log_softmax(logits.float(), dim=-1)
        self.count += len(log_p)
        self.probability += log_p.exp().sum(dim=0, dtype=torch.float64).cpu()
        # expm1 keeps the digits of 1 - p near one; it is bounded below by one rounding of float32.
        rest = torch.log(-torch.expm1(log_p.clamp_max(-6e-8)))
        self.log_odds += (log_p - rest).sum(dim=0, dtype=torch.float64).cpu()

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean probability and mean log-odds, float64 (V,) each."""
        return self.probability / self.count, self.log_odds / self.count
