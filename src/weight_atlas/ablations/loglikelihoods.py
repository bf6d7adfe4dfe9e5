"""Log-likelihoods of continuations for lm-evaluation-harness: the head is applied to their positions only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.memory import batch_within
from weight_atlas.live.scoring import joined

# The texts, by which the harness caches an answer; token ids of the context; token ids of the continuation.
Request = tuple[tuple[str, str] | None, list[int], list[int]]
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """log_likelihood: of a continuation, nats. greedy: whether each of its tokens has the largest logit."""

    log_likelihood: float
    greedy: bool


def log_likelihoods(
    live: Anatomy, requests: Sequence[Request], *, longest: int, batch_size: int, softmax_dtype: torch.dtype | None
) -> tuple[list[Answer], list[torch.Tensor]]:
    """The answer to each request, and the largest scored logit of each batch, a scalar on its device.

    As HFLM of lm-evaluation-harness does: requests that differ in their last token only share an input, the longest
    inputs come first, shorter ones of a batch are padded at the end, and an input that is too long keeps its last
    `longest` tokens. There is one difference, where requests with the same input split it differently into context and
    continuation: here the likelihood of each is read at its own positions, as the model alone gives it. HFLM 0.4.13
    reads the shorter continuation at the positions where the longer one begins.

    batch_size: inputs in a batch, at most (see live.memory). softmax_dtype: None keeps the logits'. Raises AtlasError
    for a continuation of more than `longest` tokens.
    """
    sharing: dict[Tokens, list[int]] = {}
    for number, (_, context, continuation) in enumerate(requests):
        sharing.setdefault((*context, *continuation[:-1]), []).append(number)
    answers: dict[int, Answer] = {}
    largest: list[torch.Tensor] = []
    for batch in _batches(live, sorted(sharing, key=lambda ids: (-len(ids), ids)), longest, batch_size):
        numbers = [sharing[ids] for ids in batch]
        continuations = [[requests[number][2] for number in together] for together in numbers]
        _refuse_cut([tokens for together in continuations for tokens in together], longest)
        values = _scored(live, [ids[-longest:] for ids in batch], continuations, softmax_dtype)
        largest.append(values.pop("largest").max())
        flat = [number for together in numbers for number in together]
        lengths = [len(requests[number][2]) for number in flat]
        parts = (values[name].split(lengths) for name in ("log_p", "greedy"))
        for number, log_p, greedy in zip(flat, *parts, strict=True):
            answers[number] = Answer(float(log_p.sum()), bool(greedy.all()))
    return [answers[number] for number in range(len(requests))], largest


def _refuse_cut(continuations: Sequence[list[int]], longest: int) -> None:
    length = max(map(len, continuations))
    if length > longest:
        raise AtlasError(
            f"a continuation of {length} tokens exceeds the model's context of {longest}",
            remedy="take a task with shorter answers, or a model with a longer context",
        )


def _batches(live: Anatomy, inputs: Sequence[Tokens], longest: int, most: int) -> Iterator[Sequence[Tokens]]:
    """Inputs, longest first, in batches as large as the bounds on memory allow."""
    start = 0
    while start < len(inputs):
        length = min(len(inputs[start]), longest)
        size = batch_within(most, live.activation_bytes(length))
        if not live.head.chunked:
            size = max(1, min(size, live.head.positions // length))
        yield inputs[start : start + size]
        start += size


def _scored(
    live: Anatomy, inputs: Sequence[Tokens], continuations: Sequence[Sequence[list[int]]], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    """log_p and greedy of each token of the continuations of each input, in order, and the largest logit of each."""
    length = max(map(len, inputs))
    ids = torch.zeros(len(inputs), length, dtype=torch.int64)
    row: list[int] = []
    position: list[int] = []
    target: list[int] = []
    for number, (tokens, sharing) in enumerate(zip(inputs, continuations, strict=True)):
        ids[number, : len(tokens)] = torch.tensor(tokens)
        for continuation in sharing:
            row += [number] * len(continuation)
            position += range(len(tokens) - len(continuation), len(tokens))
            target += continuation
    states, targets = live.head.states(ids), torch.tensor(target)
    parts = []
    for _, part, logits in live.head.chunks(states[row, position][None]):
        wanted = targets[part].to(logits.device)
        log_p = torch.log_softmax(logits, -1, dtype=dtype)
        own = {"log_p": log_p.gather(1, wanted[:, None])[:, 0], "greedy": log_p.argmax(-1) == wanted}
        parts.append({**own, "largest": logits.amax(-1)})
    return joined(parts)
