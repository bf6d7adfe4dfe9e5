"""ggml's block formats there and back: the legacy types by the gguf package, K-quants by llama.cpp's own search.

A K-quant holds 256 weights in sub-blocks whose scales (and minima) are integers times one or two float16 numbers.
Sub-block scales come from trying several steps and solving for the scale (and minimum) by weighted least squares, with
weights that grow with the magnitude, as quantize_row_q*_K_ref of llama.cpp (ggml-quants.c) does. What llama-quantize
writes with an importance matrix is better by some tenths of a decibel.
"""

from dataclasses import dataclass

import numpy as np

from weight_atlas.quantization.errors import sixteen_bits
from weight_atlas.weights.kernels import compiled

_SUPER = 256
# Added to a float32 of magnitude below 2^22 and taken off again, it leaves the nearest integer, ties to even.
_INTEGER = np.float32(1.5 * 2**23)


@dataclass(frozen=True)
class _KQuant:
    """sub: weights of a sub-block. most: largest level. steps: largest scale. signed: symmetric about zero.

    tries, start: of the search over steps. average: whether weights of the fit add the root mean square.
    """

    sub: int
    most: int
    steps: int
    signed: bool
    tries: int = 0
    start: float = 0.0
    average: bool = False


_KQUANTS = {
    "q2_K": _KQuant(16, 3, 15, False, 15, -0.5),
    "q3_K": _KQuant(16, 4, 32, True),
    "q4_K": _KQuant(32, 15, 63, False, 20, -1.0, True),
    "q5_K": _KQuant(32, 31, 63, False, 15, -0.5, True),
    "q6_K": _KQuant(16, 32, 128, True),
}


def rounded(weights: np.ndarray, name: str) -> np.ndarray:
    """float32 rows (rows, cols) as a ggml type gives them back; cols is a multiple of its block."""
    if name == "f16":
        return sixteen_bits(weights)
    if name in _KQUANTS:
        return _k_quant(np.ascontiguousarray(weights), _KQUANTS[name])
    import gguf
    from gguf import quants

    kind = gguf.GGMLQuantizationType[name.upper()]
    return quants.dequantize(quants.quantize(np.ascontiguousarray(weights), kind), kind)


def _k_quant(weights: np.ndarray, kind: _KQuant) -> np.ndarray:
    blocks = weights.reshape(-1, kind.sub)
    scales, minima = np.zeros((2, len(blocks)), dtype=np.float32)
    if kind.signed:
        _signed_scales(blocks, kind.most, scales)
        scales = _signed_steps(scales.reshape(-1, _SUPER // kind.sub), kind.steps)
    else:
        _scales_and_minima(blocks, kind.most, kind.tries, np.float32(kind.start), kind.average, scales, minima)
        scales, minima = (_steps(each.reshape(-1, _SUPER // kind.sub), kind.steps) for each in (scales, minima))
    out = np.empty_like(blocks)
    least, most = (-kind.most, kind.most - 1) if kind.signed else (0, kind.most)
    _levels(blocks, scales.reshape(-1), minima.reshape(-1), least, most, out)
    return out.reshape(weights.shape)


def _steps(sizes: np.ndarray, steps: int) -> np.ndarray:
    """Not negative numbers (super-blocks, sub-blocks) as whole multiples of one float16 a row."""
    largest = sizes.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(largest > 0, np.float32(steps) / largest, 0).astype(np.float32)
        unit = (largest / np.float32(steps)).astype(np.float16).astype(np.float32)
    return unit * np.minimum(np.rint(inverse * sizes), steps).astype(np.float32)


def _signed_steps(sizes: np.ndarray, steps: int) -> np.ndarray:
    """Numbers as whole multiples, from -steps to steps - 1, of one float16 a row; the largest is -steps."""
    largest = np.take_along_axis(sizes, np.abs(sizes).argmax(axis=1)[:, None], axis=1)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(largest != 0, -np.float32(steps) / largest, 0).astype(np.float32)
        unit = np.where(inverse != 0, 1 / inverse, 0).astype(np.float16).astype(np.float32)
    return unit * np.clip(np.rint(inverse * sizes), -steps, steps - 1).astype(np.float32)


@compiled
def _nearest(x, least, most):
    return (min(max(x, least), most) + _INTEGER) - _INTEGER


@compiled
def _levels(blocks, scales, minima, least, most, out):
    for b in range(len(blocks)):
        scale, minimum = scales[b], minima[b]
        for i in range(blocks.shape[1]):
            if scale == 0:
                out[b, i] = -minimum
            else:
                level = _nearest((blocks[b, i] + minimum) / scale, np.float32(least), np.float32(most))
                out[b, i] = scale * level - minimum


@compiled
def _signed_scales(blocks, most, scales):
    """The scale of levels -most ... most - 1 for each block: least squares, weighted by the squares of the weights."""
    for b in range(len(blocks)):
        block = blocks[b]
        largest = np.float32(0)
        for x in block:
            if abs(x) > abs(largest):
                largest = x
        if abs(largest) < 1e-15:
            continue
        best = np.float32(0)
        for step in range(-9, 10):
            inverse = -(np.float32(most) + np.float32(0.1) * np.float32(step)) / largest
            products, squares = np.float32(0), np.float32(0)
            for x in block:
                level = _nearest(inverse * x, np.float32(-most), np.float32(most - 1))
                products += x * x * x * level
                squares += x * x * level * level
            if squares > 0 and products * products > best * squares:
                scales[b], best = products / squares, products * products / squares


@compiled
def _scales_and_minima(blocks, most, tries, start, average, scales, minima):
    """Scale and (not negative) amount below zero of each block: over several steps, by weighted least squares."""
    size = blocks.shape[1]
    fit = np.empty(size, dtype=np.float32)
    for b in range(len(blocks)):
        block = blocks[b]
        low, high, square = block[0], block[0], np.float32(0)
        for x in block:
            low, high, square = min(low, x), max(high, x), square + x * x
        root = np.sqrt(square / np.float32(size)) if average else np.float32(0)
        weight, weighted = np.float32(0), np.float32(0)
        for i in range(size):
            fit[i] = root + abs(block[i])
            weight += fit[i]
            weighted += fit[i] * block[i]
        low = min(low, np.float32(0))
        if high == low:
            minima[b] = -low
            continue
        scale, minimum, least = (high - low) / np.float32(most), low, np.float32(np.inf)
        for step in range(-1, tries + 1):
            reach = np.float32(most) if step < 0 else start + np.float32(0.1) * np.float32(step) + np.float32(most)
            inverse = reach / (high - low)
            sum_l, sum_ll, sum_xl = np.float32(0), np.float32(0), np.float32(0)
            for i in range(size):
                level = _nearest(inverse * (block[i] - low), np.float32(0), np.float32(most))
                sum_l += fit[i] * level
                sum_ll += fit[i] * level * level
                sum_xl += fit[i] * level * block[i]
            new_scale, new_minimum = (high - low) / np.float32(most), low
            determinant = weight * sum_ll - sum_l * sum_l
            if step >= 0:
                if not determinant > 0:
                    continue
                new_scale = (weight * sum_xl - weighted * sum_l) / determinant
                new_minimum = (sum_ll * weighted - sum_l * sum_xl) / determinant
                if new_minimum > 0:
                    new_scale, new_minimum = sum_xl / sum_ll, np.float32(0)
            error = np.float32(0)
            for i in range(size):
                level = _nearest(inverse * (block[i] - low), np.float32(0), np.float32(most))
                difference = new_scale * level + new_minimum - block[i]
                error += fit[i] * (difference * difference if average else abs(difference))
            if error < least:
                scale, minimum, least = new_scale, new_minimum, error
        scales[b], minima[b] = max(scale, np.float32(0)), -minimum
