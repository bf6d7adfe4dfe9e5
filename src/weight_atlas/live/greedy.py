"""Greedy continuation of a text by a live model, and how likely it finds a continuation that is given.

Keys and values of earlier tokens are kept between steps where that gives the model's own logits, which is tried on a
prompt first; elsewhere every step is a pass over all tokens.
"""

import torch

from weight_atlas.live.anatomy import Anatomy
from weight_atlas.live.head import UNFIT
from weight_atlas.live.language_model import input_device
from weight_atlas.live.memory import is_out_of_memory
from weight_atlas.live.scoring import finite_or_infinite

# Of the largest logit: what rounding may make of another order of sums.
TOLERANCE = 1e-4
# Tokens of the trial that are added one by one.
STEPS = 4


@torch.no_grad()
def keeps_cache(live: Anatomy, ids: torch.Tensor) -> bool:
    """Whether passes over single tokens, with what earlier ones left, give the logits of a pass over all of ids (1, n).

    The last STEPS tokens are added one by one, and all of their logits compared.
    """
    start = max(1, ids.shape[1] - STEPS)
    ids = ids.to(input_device(live.model))
    try:
        logits, cache = _step(live, ids[:, :start], None)
        parts = [logits]
        for number in range(start, ids.shape[1]):
            logits, cache = _step(live, ids[:, number : number + 1], cache)
            parts.append(logits)
    except UNFIT as error:
        if is_out_of_memory(error):
            raise
        return False
    stepwise, whole = torch.stack(parts).float(), live.model(input_ids=ids, use_cache=False).logits[0, start - 1 :]
    eps = max(TOLERANCE, 4 * torch.finfo(whole.dtype).eps)
    return torch.allclose(stepwise, whole.float(), rtol=0, atol=eps * float(whole.float().abs().max()))


@torch.no_grad()
def greedy(live: Anatomy, ids: torch.Tensor, count: int, *, cached: bool) -> list[int]:
    """The `count` tokens that continue ids (1, n), each the likeliest; fewer where logits are no finite numbers.

    cached: whether keys and values are kept between steps (see keeps_cache). Ends of texts do not end it.
    """
    ids = ids.to(input_device(live.model))
    given, cache, found = ids, None, []
    for _ in range(count):
        if cached:
            logits, cache = _step(live, given, cache)
        else:
            last = torch.tensor([ids.shape[1] - 1])
            logits = live.head.logits(live.head.states(ids, last)[0])[0]
        largest = logits.max()
        if not bool(torch.isfinite(largest)):
            break
        # The first of equal ones, whatever the device prefers.
        token = int((logits == largest).nonzero()[0])
        found.append(token)
        given = torch.tensor([[token]], device=ids.device)
        ids = torch.cat([ids, given], dim=1)
    return found


@torch.no_grad()
def continuation_nll(live: Anatomy, ids: torch.Tensor, continuation: list[int]) -> float:
    """Mean negative log-likelihood, in nats per token, of a continuation behind ids (1, n), all in one pass.

    Infinite where logits are no finite numbers.
    """
    ids = torch.cat([ids, torch.tensor([continuation])], dim=1)
    positions = torch.arange(ids.shape[1] - len(continuation) - 1, ids.shape[1] - 1)
    states = live.head.states(ids, positions)
    total = 0.0
    for _, part, logits in live.head.chunks(states):
        following = ids[0, positions[part] + 1].to(logits.device)
        total += float(finite_or_infinite(logits, following)["nll"].sum(dtype=torch.float64))
    return total / len(continuation)


def _step(live: Anatomy, ids: torch.Tensor, cache: object) -> tuple[torch.Tensor, object]:
    """The logits (V,) behind the last of ids (1, n), and what later tokens need of all so far."""
    output = live.model(input_ids=ids, past_key_values=cache, use_cache=True)
    if output.past_key_values is None:
        raise NotImplementedError("the model keeps nothing between passes")
    return output.logits[0, -1], output.past_key_values
