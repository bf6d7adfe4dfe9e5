"""The published detection of super weights: spikes of a forward pass, zeroed, and searched for again.

Yu et al., "The Super Weight in Large Language Models" (arXiv 2411.07191). In each round the largest output of every
MLP output projection and its largest input are compared with a threshold; where both exceed it, the weight between
them is a candidate and is set to zero, and the next round looks at the modified model.

Corrections to the original: input and output peak are taken at the same token, and w * x must be most of y, since
otherwise the weight between two spikes did not cause the second (there are many such pairs in a model damaged by
earlier rounds); weights are read in the logical layout whatever the family stores; statistics are float32; NaN ends the
search with a message.
"""

from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources

import pandas as pd
import torch

from weight_atlas.errors import finite
from weight_atlas.live.anatomy import Anatomy, Coordinate, Projection
from weight_atlas.live.edits import edited, value_at, zero
from weight_atlas.live.experts import ExpertActivation
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.settings.super_weights import SuperWeights
from weight_atlas.super_weights.calibration import each_expert


@dataclass(frozen=True)
class Peak:
    """The largest output of one projection in one round, and the largest input at the same token.

    row, col: logical coordinate; max_input: largest input at any token, as in the original procedure.
    """

    iteration: int
    layer: int
    component: str
    tensor: str
    expert: int | None
    token: int
    row: int
    col: int
    input_value: float
    output_value: float
    max_input: float
    weight: float
    accepted: bool = False


def spikes(live: Anatomy, ids: torch.Tensor, settings: SuperWeights, *, threshold: float) -> pd.DataFrame:
    """Run the procedure on token ids (1, length); returns one row per round and projection (see Peak).

    Accepted rows are the candidates. The last round, in which nothing is accepted, is included. The model is left
    as it was. threshold: both |input| and |output| must exceed it. settings: max_iterations, the most rounds; min_rho,
    which rho = w * x / y must reach, and which the original procedure did not ask for.
    """
    rows: list[Peak] = []
    found: list[Coordinate] = []
    for iteration in range(1, settings.max_iterations + 1):
        with edited(live, [zero(coordinate) for coordinate in found]):
            peaks = _peaks(live, ids, iteration)
        new = []
        for peak, projection in peaks:
            coordinate = projection.coordinate(peak.row, peak.col, peak.expert)
            weight = value_at(live, coordinate)
            large = abs(peak.input_value) > threshold and abs(peak.output_value) > threshold
            explains = large and weight * peak.input_value / peak.output_value >= settings.min_rho
            accepted = explains and coordinate not in found
            new += [coordinate] if accepted else []
            rows.append(replace(peak, weight=weight, accepted=accepted))
        found += new
        if not new:
            break
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Peak)])
    table["expert"] = table["expert"].astype("Int64")
    table["rho"] = table["weight"] * table["input_value"] / table["output_value"]
    return table


def _peaks(live: Anatomy, ids: torch.Tensor, iteration: int) -> list[tuple[Peak, Projection]]:
    seen: list[tuple[Projection, int | None, torch.Tensor]] = []

    def of_expert(projection: Projection, one: ExpertActivation) -> None:
        matrix = projection.matrix(one.expert if projection.stacked else None)
        seen.append((projection, one.expert, _peak(one.x, one.y, matrix, one.token)))

    def of_linear(projection: Projection):
        def look(module, inputs, output):
            x, y = (value.detach().reshape(-1, value.shape[-1]).float() for value in (inputs[0], output))
            seen.append((projection, None, _peak(x, y, projection.matrix(), None)))

        return look

    with ExitStack() as hooks:
        hooks.enter_context(each_expert(live, of_expert))
        for projection in live.projections:
            if not projection.stacked and projection.expert is None:
                hooks.callback(projection.container.register_forward_hook(of_linear(projection)).remove)
        with torch.no_grad(), out_of_memory_explained(f"a forward pass of {tuple(ids.shape)} tokens"):
            live.head.run(ids)
    return [
        (_as_peak(iteration, projection, expert, values.tolist()), projection) for projection, expert, values in seen
    ]


def _peak(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    """(token, row, col, x, y, max |x|) of the largest |y|, float64, as one tensor so that one transfer suffices.

    Inputs whose weight to that row is zero, such as one zeroed in an earlier round, are skipped.
    """
    place = y.abs().argmax()
    token, row = place // y.shape[1], place % y.shape[1]
    col = torch.where(weight[row] != 0, x[token].abs(), 0).argmax()
    position = token if tokens is None else tokens[token]
    return torch.stack([value.double() for value in (position, row, col, x[token, col], y[token, row], x.abs().amax())])


def _as_peak(iteration: int, projection: Projection, expert: int | None, values: list[float]) -> Peak:
    token, row, col, x, y, max_input = values
    for value in (y, max_input):
        finite(value, projection.name)
    return Peak(
        iteration, projection.layer, projection.component, projection.parameter_name, expert,
        int(token), int(row), int(col), x, y, max_input, 0.0,
    )  # fmt: skip


def family_threshold(live: Anatomy) -> tuple[float, str]:
    """The usual threshold of the procedure for the model's lineage, and the reason for it (spike_thresholds.yaml).

    It depends on the model type: derived families (mixtures, later generations) are in the table under their lineage.
    """
    import yaml

    table = yaml.safe_load((resources.files(__package__) / "spike_thresholds.yaml").read_text(encoding="utf-8"))
    model_type = live.model.config.get_text_config().model_type
    for lineage, row in table["lineages"].items():
        if model_type in row["model_types"]:
            return float(row["threshold"]), f"model type {model_type}, of the lineage {lineage}"
    return float(table["default"]), f"model type {model_type} has none of its own: the procedure's default"
