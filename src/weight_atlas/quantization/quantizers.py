"""Round-to-nearest quantization of a matrix, there and back, at several number formats and granularities.

Integers: asymmetric, w -> round((w - min) / step) with step = (max - min) / (2^bits - 1) over a block (Yu et al., "The
Super Weight in Large Language Models", arXiv 2411.07191, section 5), or symmetric, step = max|w| / (2^(bits-1) - 1).
NF4: the nearest of sixteen levels times the block's max|w| (Dettmers et al., QLoRA, arXiv 2305.14314). FP8: scaled so
that the block's max|w| is the format's largest number. MXFP4: scales that are powers of two (OCP Microscaling Formats
1.0, section 6.3; blocks of 32 there). NVFP4: scales in E4M3 over one in float32 of the whole matrix (blocks of 16 in
NVIDIA's hardware). A clipped scheme takes, of several shares of each block's range, the one with the least error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.quantization.formats import FORMATS, Rounding

# Shares of a block's range that a clipped scheme tries; an outlier of a whole tensor can ask for a small one.
RATIOS = tuple(1 - step / 40 for step in range(21))
TENSOR_RATIOS = tuple(2 ** (-step / 8) for step in range(57))


@dataclass(frozen=True)
class Scheme:
    """How to quantize a matrix.

    format: one of FORMATS. granularity: what shares a scale: "tensor", "channel" (a row of the logical (out, in)
    matrix), "group:N" (N neighbours in a row) or "block:N" (N neighbours of the flattened matrix). symmetric: of
    integers only. clip: z; weights are first clipped at mean|W| + z * std|W| of the whole matrix; None: not at all.
    clipped: each block's range is shrunk to where its squared error is least; of integers only. full: symmetric with
    all 2^bits levels, the lowest of which has no counterpart, as compressed-tensors and GPTQ have them.
    """

    format: str
    granularity: str = "tensor"
    symmetric: bool = False
    clip: float | None = None
    clipped: bool = False
    full: bool = False

    def __post_init__(self):
        kind, _, size = self.granularity.partition(":")
        sized = kind in ("group", "block")
        if self.format not in FORMATS or kind not in ("tensor", "channel", "group", "block"):
            raise AtlasError(f"no quantization {self.format!r} per {self.granularity!r}", remedy=_REMEDY)
        if sized != bool(size) or (sized and not (size.isdecimal() and int(size) > 1)):
            raise AtlasError(f"no granularity {self.granularity!r}", remedy=_REMEDY)
        if self.clipped and not self.integer:
            raise AtlasError(f"no clipped {self.format}", remedy="clipped schemes are of integers")
        if self.full and not (self.integer and self.symmetric):
            raise AtlasError(f"{self.format} has no full range", remedy="it is of symmetric integers")

    @classmethod
    def named(cls, name: str) -> "Scheme":
        """The scheme of a name: FORMAT/GRANULARITY, then /asymmetric or /full (else symmetric), and /clipped."""
        format_, granularity, *words = name.split("/") if "/" in name else (name, "tensor")
        if unknown := set(words) - {"asymmetric", "clipped", "full"}:
            raise AtlasError(f"no quantization {name!r}: what is {min(unknown)!r}?", remedy=_REMEDY)
        return cls(
            format_,
            granularity,
            symmetric="asymmetric" not in words,
            clipped="clipped" in words,
            full="full" in words,
        )

    @property
    def name(self) -> str:
        """What named() reads."""
        words = (
            ["asymmetric"] * (self.integer and not self.symmetric) + ["full"] * self.full + ["clipped"] * self.clipped
        )
        return "/".join([self.format, self.granularity, *words])

    @property
    def integer(self) -> bool:
        """Whether its levels are equally far apart."""
        return FORMATS[self.format].symmetric is not None

    @property
    def ratios(self) -> tuple[float, ...]:
        """The shares of a block's range that are tried."""
        return (1.0,) if not self.clipped else TENSOR_RATIOS if self.granularity == "tensor" else RATIOS

    @property
    def block(self) -> int | None:
        """Elements of a group or block, None for whole tensors and channels."""
        size = self.granularity.partition(":")[2]
        return int(size) if size else None

    def __str__(self) -> str:
        symmetric = " symmetric" if self.symmetric and FORMATS[self.format].symmetric is not None else ""
        clipped = "" if self.clip is None else f" clipped at {self.clip:g} std"
        full = " full" if self.full else ""
        return f"{self.format} per {self.granularity.replace(':', ' ')}{symmetric}{full}{clipped}"


_REMEDY = f"formats: {', '.join(FORMATS)}; granularities: tensor, channel, group:N, block:N with N > 1"


def quantized(weight: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """A matrix (out, in) after quantization and back; float32, same shape and device."""
    w = weight.float()
    if scheme.clip is not None:
        size = w.abs()
        bound = size.mean() + scheme.clip * size.std(correction=0)
        w = w.clamp(-bound, bound)
    known = FORMATS[scheme.format]
    symmetric = known.full if scheme.full else known.symmetric
    round_trip = symmetric if scheme.symmetric and symmetric is not None else known.round_trip
    blocks = _blocked(w, scheme)
    if not scheme.clipped:
        return _unblocked(round_trip(blocks), w.shape, scheme)
    places = _blocked(torch.arange(w.numel(), device=w.device).reshape(w.shape), scheme)
    filled = torch.nn.functional.pad(places[:, 1:] == places[:, :-1], (1, 0))
    return _unblocked(_least(blocks, ~filled, round_trip, scheme.ratios), w.shape, scheme)


def _least(blocks: torch.Tensor, counted: torch.Tensor, round_trip: Rounding, ratios: Sequence[float]) -> torch.Tensor:
    """Of several shares of each block's range, what the one with the least squared error gives; the first of equals.

    counted: the weights that the error is of.
    """
    best, least = blocks, torch.full((len(blocks), 1), torch.inf, dtype=torch.float64, device=blocks.device)
    for ratio in ratios:
        candidate = round_trip(blocks, ratio=ratio)
        error = ((blocks.double() - candidate.double()).square() * counted).sum(1, keepdim=True)
        best, least = torch.where(error < least, candidate, best), torch.minimum(least, error)
    return best


def bits_per_weight(shape: tuple[int, int], scheme: Scheme) -> float:
    """Bits that a weight takes, the blocks' scales and minima included, and NVFP4's one for the whole matrix."""
    rows, cols = shape
    kind = scheme.granularity.partition(":")[0]
    if scheme.block is None:
        blocks = rows if kind == "channel" else 1
    else:
        blocks = rows * -(-cols // scheme.block) if kind == "group" else -(-rows * cols // scheme.block)
    known = FORMATS[scheme.format]
    scales = 2 if known.symmetric is not None and not scheme.symmetric else 1
    whole = 32 if scheme.format == "nvfp4" else 0
    return known.bits + (blocks * known.scale_bits * scales + whole) / (rows * cols)


def error_of(weight: torch.Tensor, approximation: torch.Tensor) -> dict[str, float]:
    """How far a matrix is from another, in float64 sums.

    mse; relative_error = |W - Q|_F / |W|_F; sqnr_db = 20 log10 of its inverse; max_error; worst_row: the largest
    relative error of a row; squared_error and energy: sums of squares, to be added up over matrices.
    """
    w, difference = weight.double(), weight.double() - approximation.double()
    squared, energy = float((difference**2).sum()), float((w**2).sum())
    rows = difference.norm(dim=1) / w.norm(dim=1).clamp_min(1e-300)
    ratio = squared / energy if energy else 0.0
    return {
        "mse": squared / w.numel(),
        "relative_error": ratio**0.5,
        "sqnr_db": float("inf") if ratio == 0 else float(-10 * torch.tensor(ratio, dtype=torch.float64).log10()),
        "max_error": float(difference.abs().max()),
        "worst_row": float(rows.max()),
        "squared_error": squared,
        "energy": energy,
    }


def _blocked(w: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """Rows of weights that share a scale; a short last one is filled up with its last weight: its range stays."""
    kind = scheme.granularity.partition(":")[0]
    rows = w if kind in ("channel", "group") else w.reshape(1, -1)
    return rows if scheme.block is None else _filled(rows, scheme.block).reshape(-1, scheme.block)


def _filled(rows: torch.Tensor, size: int) -> torch.Tensor:
    missing = -rows.shape[1] % size
    return torch.cat([rows, rows[:, -1:].expand(-1, missing)], dim=1) if missing else rows


def _unblocked(blocks: torch.Tensor, shape: torch.Size, scheme: Scheme) -> torch.Tensor:
    rows, cols = shape
    if scheme.granularity.startswith("group"):
        return blocks.reshape(rows, -1)[:, :cols]
    return blocks.reshape(-1)[: rows * cols].reshape(shape)
