"""Effects of single neurons and weights on all tokens, and the moments of such effects."""

import numpy as np
import torch

from weight_atlas.vocabulary.readout import Readout

# Rows of the unembedding that are converted to float64 at a time.
BLOCK = 4096


def direct_effects(readout: Readout, vectors: torch.Tensor) -> np.ndarray:
    """Effect of each vector on each token's logit: W_U' v, float64 (V, n), for vectors (d_model, n) or (d_model,).

    Gurnee et al., "Universal Neurons in GPT2 Language Models" (arXiv 2401.12181), section 5.
    """
    projected = readout.seen(vectors.double())
    blocks = [(block.double() @ projected).cpu() for block in readout.unembedding.split(BLOCK)]
    return torch.cat(blocks).numpy()


def cosine_effects(readout: Readout, vectors: torch.Tensor) -> np.ndarray:
    """Cosine of each vector with each row of W_U', float64 (V, n) in [-1, 1]; 0 where either is zero.

    For a LayerNorm both are centred over d_model; for an RMSNorm neither is.
    """
    projected = readout.seen(vectors.double())
    blocks = []
    for block in readout.unembedding.split(BLOCK):
        rows = block.double()
        norms = rows.norm(dim=1).reshape(-1, *[1] * (projected.ndim - 1)) * projected.norm(dim=0)
        blocks.append(torch.where(norms > 0, rows @ projected / norms.clamp_min(1e-300), 0.0).cpu())
    return torch.cat(blocks).numpy()


def scalar_effects(readout: Readout, row: int, weight: float) -> np.ndarray:
    """Effect of one weight W_down[row, col] = weight on each token's logit: W_U'[:, row] * weight, float64 (V,)."""
    return readout.unembedding[:, row].double().cpu().numpy() * weight


def moments(effects: np.ndarray) -> dict[str, float]:
    """Mean, population variance, skewness E z^3 and raw kurtosis E z^4 (a Gaussian has 3) of effects over tokens.

    skew and kurt are NaN where the variance is zero.
    """
    effects = np.asarray(effects, dtype=np.float64)
    mean = effects.mean()
    centred = effects - mean
    square = centred * centred
    var = square.mean()
    # Below this the variance is rounding of the mean.
    if var <= (1e-15 * max(abs(mean), 1e-300)) ** 2:
        return {"mean": float(mean), "var": float(var), "skew": float("nan"), "kurt": float("nan")}
    skew, kurt = (square * centred).mean() / var**1.5, (square * square).mean() / var**2
    return {"mean": float(mean), "var": float(var), "skew": float(skew), "kurt": float(kurt)}


def top_tokens(effects: np.ndarray, allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the k largest and of the k smallest effects among allowed ids, strongest first, ties by smaller id.

    effects, allowed: (V,). Fewer than k where fewer are allowed.
    """
    ids = np.flatnonzero(allowed)
    values = effects[ids]
    k = min(k, len(ids))
    return ids[_largest(values, k)], ids[_largest(-values, k)]


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    if k == 0:
        return np.empty(0, dtype=np.intp)
    bound = np.partition(values, len(values) - k)[len(values) - k]
    candidates = np.flatnonzero(values >= bound)
    return candidates[np.lexsort((candidates, -values[candidates]))][:k]
