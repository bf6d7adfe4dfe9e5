"""The weights to intervene on: detected super weights and configured coordinates, checked against the checkpoint."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.vocabulary import InterventionTargets
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    super_weights: Path | None = None,
    *,
    targets: Path,
    model: str = "model",
    settings: InterventionTargets,
) -> None:
    """Write the targets of one model."""
    from weight_atlas.vocabulary.targets import find_targets

    artifact = if_applicable(super_weights, read_json) if super_weights else None
    detected = artifact["super_weights"] if artifact else []
    inventory, asked = read_table(tensor_inventory), settings.coordinates.get(model, [])
    found = find_targets(open_checkpoint(checkpoint), inventory, detected, asked, most=settings.most)
    write_json(targets, {"schema": 1, "model": model, "factor": settings.factor, "targets": found})
    print(f"{len(found)} targets", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
