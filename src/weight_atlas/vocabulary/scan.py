"""Vocabulary effects of all neurons, streamed: W_U' W_down in blocks, of which only moments and top tokens are kept."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from weight_atlas.vocabulary.accumulate import accumulate
from weight_atlas.vocabulary.neurons import NeuronBlock
from weight_atlas.vocabulary.readout import Readout

# Tokens and neurons of one block of the product: small enough to stay in cache until its sums are taken, large enough
# for the product to run at full speed.
TOKENS, NEURONS = 2048, 256


@dataclass(frozen=True)
class Vocabulary:
    """A readout prepared for many neurons.

    listed: bool (V,), tokens that may be top tokens. mean: float64 (d_model,), mean row of W_U'. cosine_gram: float32
    (d_model, d_model), covariance of the unit rows of W_U', so that the variance over tokens of the cosine with a
    vector v is v^T C v / |v|^2.
    """

    readout: Readout
    listed: np.ndarray
    mean: torch.Tensor
    cosine_gram: torch.Tensor


def prepare(readout: Readout, listed: np.ndarray) -> Vocabulary:
    """Take what is common to all neurons from a readout; costs one product of (d_model, V) with its transpose."""
    d_model, V = readout.unembedding.shape[1], readout.vocabulary
    options = {"dtype": torch.float64, "device": readout.unembedding.device}
    mean, unit_mean = torch.zeros(d_model, **options), torch.zeros(d_model, **options)
    gram = torch.zeros(d_model, d_model, **options)
    stripes = [slice(start, start + NEURONS) for start in range(0, d_model, NEURONS)]
    with _one_thread_each() as pool:
        for block in readout.unembedding.split(TOKENS):
            unit = torch.nn.functional.normalize(block, dim=1, eps=1e-30)

            def take(stripe, block=block, unit=unit):
                mean[stripe] += block[:, stripe].sum(dim=0, dtype=torch.float64)
                unit_mean[stripe] += unit[:, stripe].sum(dim=0, dtype=torch.float64)
                gram[stripe] += unit[:, stripe].T @ unit

            list(pool.map(take, stripes))
    unit_mean /= V
    return Vocabulary(readout, np.asarray(listed), mean / V, (gram / V - unit_mean.outer(unit_mean)).float())


def scan_block(vocabulary: Vocabulary, vectors: torch.Tensor, *, k: int = 10) -> pd.DataFrame:
    """Moments and top tokens of the effects of neurons whose vectors are (d_model, n): one row per neuron.

    Columns: neuron, mean, var, skew, kurt (raw), cos_var (variance of the cosines), norm (of the vector as the norm
    sees it), top_ids, top_effects, bottom_ids, bottom_effects (lists of at most k, strongest first). Needs memory for
    one block of effects per thread, never V x n.
    """
    vectors = vocabulary.readout.seen(vectors)
    if vectors.device.type == "cuda":
        parts = [_on_device(vocabulary, part, k) for part in vectors.T.split(16 * NEURONS)]
    else:
        parts = _on_cores(vocabulary, vectors, k)
    sums, mean, up, up_ids, down, down_ids = (np.concatenate(part) for part in zip(*parts, strict=True))
    table = pd.DataFrame({"neuron": np.arange(vectors.shape[1], dtype=np.int32), **_moments(sums, mean, vocabulary)})
    norm = vectors.norm(dim=0)
    with _one_thread_each() as pool:
        terms = pool.map(
            lambda part: (part * (vocabulary.cosine_gram @ part)).sum(dim=0), vectors.split(NEURONS, dim=1)
        )
        quadratic = torch.cat(list(terms)).clamp_min(0)
    table["cos_var"] = (quadratic / (norm * norm).clamp_min(1e-30)).cpu().numpy()
    table["norm"] = norm.cpu().numpy()
    for name, values, ids in (("top", up, up_ids), ("bottom", down, down_ids)):
        found = min(k, int(vocabulary.listed.sum()))
        table[f"{name}_ids"] = list(ids[:, :found].astype(np.int32))
        table[f"{name}_effects"] = list(values[:, :found].astype(np.float32))
    return table


def scan(vocabulary: Vocabulary, blocks: Iterable[NeuronBlock], *, k: int = 10) -> pd.DataFrame:
    """Scan the neurons of all blocks: layer, expert, component and the columns of `scan_block`."""
    tables = []
    for block in blocks:
        table = scan_block(vocabulary, block.vectors, k=k)
        for column, value in reversed(
            (("layer", block.layer), ("expert", block.expert), ("component", block.component))
        ):
            table.insert(0, column, pd.Series([value] * len(table), dtype="str" if column == "component" else "Int64"))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


@contextmanager
def _one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch has, in each of which torch has one.

    Products that are split into blocks of fixed size, each by one thread, have the same bits for any number of threads;
    a product that torch splits by itself has not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _on_cores(vocabulary: Vocabulary, vectors: torch.Tensor, k: int) -> list[tuple[np.ndarray, ...]]:
    """Each thread takes blocks of neurons, and of each block all tokens."""
    with _one_thread_each() as pool:
        return list(pool.map(lambda part: _neurons(vocabulary, part, k), vectors.T.split(NEURONS)))


def _neurons(vocabulary: Vocabulary, vectors: torch.Tensor, k: int) -> tuple[np.ndarray, ...]:
    n, V = len(vectors), vocabulary.readout.vocabulary
    mean = (vectors.double() @ vocabulary.mean).numpy()
    sums, centre = np.zeros((n, 4)), mean.astype(np.float32)
    up, down = np.full((n, k), -np.inf, np.float32), np.full((n, k), -np.inf, np.float32)
    penalty = np.where(vocabulary.listed, 0, np.inf).astype(np.float32)
    up_ids, down_ids = np.full((n, k), -1, np.int32), np.full((n, k), -1, np.int32)
    vectors = vectors.contiguous()
    buffer = torch.empty(n * TOKENS)
    for start in range(0, V, TOKENS):
        tokens = vocabulary.readout.unembedding[start : start + TOKENS]
        effects = torch.mm(vectors, tokens.T, out=buffer[: n * len(tokens)].view(n, -1)).numpy()
        accumulate(effects, start, centre, penalty[start : start + TOKENS], sums, up, up_ids, down, down_ids)
    return sums, mean, up, up_ids, -down, down_ids


def _on_device(vocabulary: Vocabulary, vectors: torch.Tensor, k: int) -> tuple[np.ndarray, ...]:
    """The same on a GPU, where passes over a block are cheap beside its product."""
    n, V = len(vectors), vocabulary.readout.vocabulary
    mean = vectors.double() @ vocabulary.mean
    sums = torch.zeros(n, 4, dtype=torch.float64, device=vectors.device)
    listed = torch.from_numpy(vocabulary.listed).to(vectors.device)
    strongest: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for start in range(0, V, 8 * TOKENS):
        effects = vectors @ vocabulary.readout.unembedding[start : start + 8 * TOKENS].T
        allowed = listed[start : start + 8 * TOKENS]
        ids = torch.arange(start, start + effects.shape[1], device=effects.device)
        for sign in (1, -1):
            candidates = torch.where(allowed, sign * effects, float("-inf"))
            values, places = candidates.topk(min(k, candidates.shape[1]), dim=1)
            found = ids[places]
            if sign in strongest:
                values, found = torch.cat([strongest[sign][0], values], 1), torch.cat([strongest[sign][1], found], 1)
            # A stable order keeps the smaller id of equal effects.
            order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
            strongest[sign] = values.gather(1, order), found.gather(1, order)
        deviation = effects - mean[:, None].float()
        square = deviation * deviation
        terms = (deviation, square, square * deviation, square * square)
        sums += torch.stack([term.sum(dim=1, dtype=torch.float64) for term in terms], dim=1)
    (up, up_ids), (down, down_ids) = strongest[1], strongest[-1]
    return tuple(part.cpu().numpy() for part in (sums, mean, up, up_ids, -down, down_ids))


def _moments(sums: np.ndarray, mean: np.ndarray, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    s1, s2, s3, s4 = sums.T / vocabulary.readout.vocabulary
    # The mean taken off was rounded to float32; s1 is what is left of it.
    var = s2 - s1**2
    third = s3 - 3 * s1 * s2 + 2 * s1**3
    fourth = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(var > 0, third / var**1.5, np.nan)
        kurt = np.where(var > 0, fourth / var**2, np.nan)
    return {"mean": mean, "var": var, "skew": skew, "kurt": kurt}
