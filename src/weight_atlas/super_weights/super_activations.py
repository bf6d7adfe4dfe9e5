"""Super activations: the tokens at which they arise, and the attention on their positions with and without them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from weight_atlas.errors import finite
from weight_atlas.live.anatomy import Anatomy, Coordinate
from weight_atlas.live.edits import edited, zero
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.residual_stream import residual_output
from weight_atlas.live.windows import Windows

# Sun et al. (arXiv 2402.17762): a massive activation is above this, and above so many times the median of its layer.
SUN_LEAST, SUN_RATIO = 100.0, 1000.0
PLACE_COLUMNS = (
    "layer", "channel", "token_id", "token", "first_position", "activations", "occurrences", "share", "mean_value",
    "largest_value",
)  # fmt: skip
SINK_COLUMNS = ("layer", "share", "share_without", "largest_head", "largest_head_without")


@dataclass(frozen=True)
class Activations:
    """places: number of super activations by channel and token. sinks: attention on their positions, by layer."""

    places: pd.DataFrame
    sinks: pd.DataFrame


@torch.no_grad()
def super_activations(
    live: Anatomy, windows: Windows, super_weights: Sequence[Coordinate], tokenizer: Any, *, ratio: float = 50.0
) -> Activations:
    """Find the activations that super weights write, in windows of text.

    live: loaded with eager attention, which returns its weights. ratio: a super activation is, in the weight's channel
    after its layer, at least that many times the layer's median |h|, and either massive by the rule of Sun et al. (|h|
    above 100 and 1000 times the median) or at least half of the channel's largest in the text; ordinary tokens of a
    model with small activations exceed the first alone. places: token, whether it is the first of its window, number
    of super activations and of occurrences, share, values with sign. sinks: share of the attention of later positions
    on the positions of super activations, mean over heads and queries and of the strongest head, unchanged and with
    all super weights zeroed; empty for models that return no attention weights.
    """
    channels = sorted({(place.layer, place.row) for place in super_weights if place.row is not None})
    if not channels:
        return Activations(pd.DataFrame(columns=list(PLACE_COLUMNS)), pd.DataFrame(columns=list(SINK_COLUMNS)))
    # Whether a value counts depends on the largest in the whole text.
    measured = [_channels(live, windows, number, channels) for number in range(len(windows))]
    values, medians = torch.stack([window[0] for window in measured]), torch.stack([window[1] for window in measured])
    large = outstanding(values, medians, ratio)
    usual, without = [], []
    for number in range(len(windows)):
        # Without super activations the first position is the one that models use as a sink.
        sink = large[number].any(0).nonzero()[:, 0].tolist() or [0]
        usual += _sink_shares(_attention(live, windows, number), sink)
        with edited(live, map(zero, super_weights)):
            without += _sink_shares(_attention(live, windows, number), sink)
    return Activations(_by_token(_values(windows, channels, values, large), windows, tokenizer), _sinks(usual, without))


def outstanding(values: torch.Tensor, medians: torch.Tensor, ratio: float) -> torch.Tensor:
    """Which values are super activations: bool like values (windows, channels, length).

    medians: (windows, channels), of |h| of the channel's layer in the window.
    """
    size, usual = values.abs(), medians[..., None]
    massive = (size > SUN_LEAST) & (size > SUN_RATIO * usual)
    return (size >= ratio * usual) & (massive | (size >= 0.5 * size.amax((0, 2), keepdim=True)))


def _channels(
    live: Anatomy, windows: Windows, number: int, channels: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of each channel after its layer in one window, (channels, length), and median |h| of its layer."""
    streams: dict[int, torch.Tensor] = {}

    def look(layer: int):
        def keep(module, inputs, output):
            streams[layer] = residual_output(output).detach()[0].float()

        return keep

    # The last layer is checked for NaN and infinity.
    wanted = sorted({layer for layer, _ in channels} | {len(live.layers) - 1})
    hooks = [live.layers[layer].register_forward_hook(look(layer)) for layer in wanted]
    try:
        _run(live, windows, number)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, stream in streams.items():
        finite(float(stream.abs().max()), f"{live.layers_path}.{layer}")
    medians = {layer: stream.abs().median().cpu() for layer, stream in streams.items()}
    values = [streams[layer][:, channel].cpu() for layer, channel in channels]
    return torch.stack(values), torch.stack([medians[layer] for layer, _ in channels])


def _attention(live: Anatomy, windows: Windows, number: int) -> list[torch.Tensor | None]:
    output = _run(live, windows, number, output_attentions=True)
    return list(getattr(output, "attentions", None) or ())


def _run(live: Anatomy, windows: Windows, number: int, **options) -> Any:
    ids = windows.ids[number : number + 1]
    with out_of_memory_explained(f"attention weights of a window of {ids.shape[1]} tokens"):
        return live.head.run(ids, **options)


def _values(
    windows: Windows, channels: Sequence[tuple[int, int]], values: torch.Tensor, large: torch.Tensor
) -> list[dict]:
    return [
        {
            "layer": channels[place][0],
            "channel": channels[place][1],
            "window": window,
            "position": position,
            "token_id": int(windows.ids[window, position]),
            "value": float(values[window, place, position]),
        }
        for window, place, position in large.nonzero().tolist()
    ]


def _by_token(found: list[dict], windows: Windows, tokenizer: Any) -> pd.DataFrame:
    """The table of Activations.places: a row per layer, channel, token and whether it is the first of its window."""
    if not found:
        return pd.DataFrame(columns=list(PLACE_COLUMNS))
    table = pd.DataFrame(found)
    table["first_position"] = table.position == 0
    groups = table.groupby(["layer", "channel", "token_id", "first_position"], sort=True)
    rows = []
    for (layer, channel, token, first), group in groups:
        here = windows.ids[:, :1] if first else windows.ids[:, 1:]
        occurrences = int((here == token).sum())
        rows.append(
            {
                "layer": layer,
                "channel": channel,
                "token_id": token,
                "token": tokenizer.decode([token]),
                "first_position": first,
                "activations": len(group),
                "occurrences": occurrences,
                "share": len(group) / occurrences,
                "mean_value": group.value.mean(),
                "largest_value": group.value.loc[group.value.abs().idxmax()],
            }
        )
    table = pd.DataFrame(rows, columns=list(PLACE_COLUMNS))
    return table.sort_values(["layer", "channel", "activations"], ascending=[True, True, False], kind="stable")


def _sink_shares(attention: Sequence[torch.Tensor | None], sink: list[int]) -> list[tuple[int, float, float]]:
    """(layer, mean share, share of the strongest head) of later queries' attention on the sink positions."""
    rows = []
    for layer, weights in enumerate(attention):
        if weights is None or weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
            # A layer without attention, or with another kind of it.
            continue
        heads = weights[0].float()
        queries = torch.arange(min(sink) + 1, heads.shape[1])
        if len(queries) == 0:
            continue
        on_sink = heads[:, queries][:, :, sink].sum(-1).mean(-1)
        rows.append((layer, float(on_sink.mean()), float(on_sink.max())))
    return rows


def _sinks(usual: list[tuple], without: list[tuple]) -> pd.DataFrame:
    columns = ["layer", "share", "largest_head"]
    tables = [pd.DataFrame(rows, columns=columns).groupby("layer").mean() for rows in (usual, without)]
    joined = tables[0].join(tables[1].add_suffix("_without")).reset_index()
    return joined[list(SINK_COLUMNS)]
