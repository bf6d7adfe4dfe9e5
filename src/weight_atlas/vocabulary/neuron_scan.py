"""Vocabulary effects of all neurons: W_U' W_down in blocks, of which only moments and top tokens are kept."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.vocabulary.effect_kernels import accumulate
from weight_atlas.vocabulary.neurons import NeuronBlock, neuron_blocks
from weight_atlas.vocabulary.readout import Readout, read_readout
from weight_atlas.vocabulary.token_classes import rows_with_tokens, text_tokens

# Tokens and neurons of a block of the product: small enough to stay in cache until it is summed, large enough for the
# product to run at full speed.
TOKENS, NEURONS = 2048, 256


@dataclass(frozen=True)
class Vocabulary:
    """A readout prepared for many neurons.

    listed: bool (V,), tokens that can be top tokens. inverse_norms: float32 (V,), 1 / |row of W_U'|, 0 for rows of
    zeros. mean, unit_mean: float64 (d_model,), mean row of W_U' and mean of its rows made unit vectors.
    """

    readout: Readout
    listed: np.ndarray
    inverse_norms: torch.Tensor
    mean: torch.Tensor
    unit_mean: torch.Tensor


def prepare(readout: Readout, listed: np.ndarray) -> Vocabulary:
    """Compute what all neurons share from a readout."""
    d_model, V = readout.unembedding.shape[1], readout.vocabulary
    mean, unit_mean = torch.zeros(2, d_model, dtype=torch.float64, device=readout.unembedding.device)
    inverse = []
    with _one_thread_each():
        for block in readout.unembedding.split(TOKENS):
            norms = block.norm(dim=1)
            inverse.append(torch.where(norms > 0, 1 / norms, 0.0))
            mean += block.sum(dim=0, dtype=torch.float64)
            unit_mean += (block * inverse[-1][:, None]).sum(dim=0, dtype=torch.float64)
    return Vocabulary(readout, np.asarray(listed), torch.cat(inverse), mean / V, unit_mean / V)


def scan_block(vocabulary: Vocabulary, vectors: torch.Tensor, *, k: int = 10) -> pd.DataFrame:
    """Moments and top tokens of the effects of neurons whose vectors are (d_model, n): one row per neuron.

    Columns: neuron, mean, var, skew, kurt (raw), the same of the cosines as cos_mean, cos_var, cos_skew, cos_kurt, norm
    (of the vector as the norm sees it), top_ids, top_effects, bottom_ids, bottom_effects (lists of at most k, strongest
    first). Needs memory for one block of effects per thread, never V x n.
    """
    vectors = vocabulary.readout.seen(vectors)
    norm = vectors.norm(dim=0)
    # Effects of a unit vector times inverse_norms are cosines; those of a zero vector are 0.
    units = (vectors / norm.clamp_min(1e-30)).T
    if vectors.device.type == "cuda":
        parts = [_on_device(vocabulary, part, k) for part in units.split(16 * NEURONS)]
    else:
        parts = _on_cores(vocabulary, units, k)
    sums, mean, cos_sums, cos_mean, up, up_ids, down, down_ids = map(np.concatenate, zip(*parts, strict=True))
    V, length = vocabulary.readout.vocabulary, norm.double().cpu().numpy()
    table = pd.DataFrame({"neuron": np.arange(vectors.shape[1], dtype=np.int32), **_moments(sums, mean, V, length)})
    for name, values in _moments(cos_sums, cos_mean, V).items():
        table[f"cos_{name}"] = values
    table["norm"] = norm.cpu().numpy()
    for name, values, ids in (("top", up, up_ids), ("bottom", down, down_ids)):
        found = min(k, int(vocabulary.listed.sum()))
        table[f"{name}_ids"] = list(ids[:, :found].astype(np.int32))
        table[f"{name}_effects"] = list((values[:, :found] * length[:, None]).astype(np.float32))
    return table


def scan_neurons(
    checkpoint: Checkpoint, inventory: pd.DataFrame, classes: pd.DataFrame, *, tokens: int, device: str = "cpu"
) -> pd.DataFrame:
    """Scan all neurons of a checkpoint: the table of `scan`, with ids of tokens in its lists.

    classes: of the model's vocabulary, see token_classes; rows of the unembedding without a token are left out. tokens:
    number of top tokens up and down.
    """
    readout = read_readout(checkpoint, inventory, device)
    kept = rows_with_tokens(classes, readout.vocabulary)
    vocabulary = prepare(readout.rows(torch.from_numpy(kept)), text_tokens(classes)[kept])
    neurons = scan(vocabulary, neuron_blocks(checkpoint, inventory, readout), k=tokens)
    for column in ("top_ids", "bottom_ids"):
        neurons[column] = [kept[ids] for ids in neurons[column]]
    print(f"{len(neurons)} neurons on {len(kept)} tokens", flush=True)
    return neurons


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

    A product in blocks of fixed size, each computed by one thread, has the same bits for any number of threads; a
    product that torch splits by itself does not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _on_cores(vocabulary: Vocabulary, units: torch.Tensor, k: int) -> list[tuple[np.ndarray, ...]]:
    """The sums of all neurons, in blocks of neurons that threads share out, each over all tokens."""
    with _one_thread_each() as pool:
        return list(pool.map(lambda part: _neurons(vocabulary, part, k), units.split(NEURONS)))


def _neurons(vocabulary: Vocabulary, units: torch.Tensor, k: int) -> tuple[np.ndarray, ...]:
    """For unit vectors (n, d_model): power sums and means of effects and of cosines, strongest tokens."""
    n, V = len(units), vocabulary.readout.vocabulary
    mean, cos_mean = ((units.double() @ each).numpy() for each in (vocabulary.mean, vocabulary.unit_mean))
    sums, cos_sums = np.zeros((n, 4)), np.zeros((n, 4))
    centre, cos_centre = mean.astype(np.float32), cos_mean.astype(np.float32)
    scale, penalty = vocabulary.inverse_norms.numpy(), np.where(vocabulary.listed, 0, np.inf).astype(np.float32)
    up, down = np.full((n, k), -np.inf, np.float32), np.full((n, k), -np.inf, np.float32)
    up_ids, down_ids = np.full((n, k), -1, np.int32), np.full((n, k), -1, np.int32)
    units = units.contiguous()
    buffer = torch.empty(n * TOKENS)
    for start in range(0, V, TOKENS):
        block = slice(start, start + TOKENS)
        tokens = vocabulary.readout.unembedding[block]
        effects = torch.mm(units, tokens.T, out=buffer[: n * len(tokens)].view(n, -1)).numpy()
        accumulate(
            effects, start, centre, scale[block], cos_centre, penalty[block], sums, cos_sums, up, up_ids, down, down_ids
        )
    return sums, mean, cos_sums, cos_mean, up, up_ids, -down, down_ids


def _on_device(vocabulary: Vocabulary, units: torch.Tensor, k: int) -> tuple[np.ndarray, ...]:
    """The same on a GPU, where passes over a block cost little compared with its product."""
    n, V = len(units), vocabulary.readout.vocabulary
    mean, cos_mean = units.double() @ vocabulary.mean, units.double() @ vocabulary.unit_mean
    sums, cos_sums = (torch.zeros(n, 4, dtype=torch.float64, device=units.device) for _ in range(2))
    listed = torch.from_numpy(vocabulary.listed).to(units.device)
    strongest: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for start in range(0, V, 8 * TOKENS):
        effects = units @ vocabulary.readout.unembedding[start : start + 8 * TOKENS].T
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
        sums += _powers(effects - mean[:, None].float())
        cosines = effects.mul_(vocabulary.inverse_norms[start : start + 8 * TOKENS])
        cos_sums += _powers(cosines.sub_(cos_mean[:, None].float()))
    (up, up_ids), (down, down_ids) = strongest[1], strongest[-1]
    parts = (sums, mean, cos_sums, cos_mean, up, up_ids, -down, down_ids)
    return tuple(part.cpu().numpy() for part in parts)


def _powers(deviation: torch.Tensor) -> torch.Tensor:
    square = deviation * deviation
    terms = (deviation, square, square * deviation, square * square)
    return torch.stack([term.sum(dim=1, dtype=torch.float64) for term in terms], dim=1)


def _moments(sums: np.ndarray, mean: np.ndarray, V: int, scale: np.ndarray | float = 1.0) -> dict[str, np.ndarray]:
    """Moments of values times scale, from power sums (n, 4) of deviations from a rounded mean (n,)."""
    s1, s2, s3, s4 = sums.T / V
    # The subtracted mean was rounded to float32; s1 is the rest.
    var = s2 - s1**2
    third = s3 - 3 * s1 * s2 + 2 * s1**3
    fourth = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.where(var > 0, third / var**1.5, np.nan)
        kurt = np.where(var > 0, fourth / var**2, np.nan)
    return {"mean": mean * scale, "var": var * scale**2, "skew": skew, "kurt": kurt}
