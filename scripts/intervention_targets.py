"""The weights to intervene on, checked against the checkpoint, and the windows that all interventions share."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.models import OwnCode
from weight_atlas.settings.vocabulary import InterventionTargets, Windows
from weight_atlas.tokens.tokenizer import load_tokenizer
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    text: Path,
    super_weights: Path | None = None,
    *,
    targets: Path,
    windows: Path,
    report: Path,
    model: str = "model",
    chosen: InterventionTargets,
    sliding: Windows,
    own: OwnCode,
) -> None:
    """Write the targets of one model, its windows over a corpus, and what was checked of these."""
    from weight_atlas.families.architecture import Architecture
    from weight_atlas.vocabulary.targets import find_targets
    from weight_atlas.vocabulary.windows import sliding_windows, windows_table

    opened = open_checkpoint(checkpoint)
    artifact = if_applicable(super_weights, read_json) if super_weights else None
    detected = artifact["super_weights"] if artifact else []
    inventory, asked = read_table(tensor_inventory), chosen.coordinates.get(model, [])
    found = find_targets(opened, inventory, detected, asked, most=chosen.most)
    write_json(targets, {"schema": 1, "model": model, "factor": chosen.factor, "targets": found})
    print(f"{len(found)} targets", flush=True)
    corpus = sliding.corpus or text.stem
    made, plan = sliding_windows(
        read_table(text),
        load_tokenizer(opened.folder, trust_remote_code=own.trust_remote_code),
        sliding,
        context=Architecture.of(opened, allow_other=True).context,
        where=f"corpus {corpus}",
    )
    write_table(windows, windows_table(made))
    write_json(report, {"corpus": corpus, "bos": sliding.bos, **plan.report()})
    print(plan.text(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
