"""What a model is made of: its configuration, and its parameters and bytes by part, layer, role and stored type."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.architecture_summary import (
    FIELDS,
    configuration,
    parameter_table,
    parameters_by,
    tensor_list,
)
from weight_atlas.figures.architecture import parameter_shares, size_by_layer
from weight_atlas.figures.style import save_figure
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    table: Path,
    parameters: Path,
    tensors: Path,
    summary: Path,
    figure: Path,
    shares: Path,
) -> None:
    """Write the configuration table of one model, its parameters by part, and their figures."""
    listed, opened = read_table(inventory), open_checkpoint(checkpoint)
    fields = configuration(Architecture.of(opened, allow_other=True), listed)
    sizes = parameter_table(listed)
    rows = [(name, str(value), FIELDS[name]) for name, value in fields.items()]
    write_table(table, pd.DataFrame(rows, columns=["field", "value", "meaning"]))
    write_table(parameters, sizes)
    write_table(tensors, tensor_list(listed))
    groups = ("category", "stack", "layer", "role", "dtype")
    by_group = {name: parameters_by(sizes, name).to_dict("records") for name in groups}
    write_json(summary, {"configuration": fields, "parameters": by_group})
    save_figure(figure, size_by_layer(sizes))
    save_figure(shares, parameter_shares(sizes))


if __name__ == "__main__":
    run_step(main, globals())
