"""Sliding windows of token ids that all interventions on a model share, and the report of their settings."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.settings.models import OwnCode
from weight_atlas.settings.vocabulary import Windows
from weight_atlas.tokens.tokenizer import load_tokenizer
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    *,
    table: Path,
    report: Path,
    settings: Windows,
    own: OwnCode,
) -> None:
    """Write the windows of one model over a corpus, and what was checked."""
    from weight_atlas.families.architecture import Architecture
    from weight_atlas.vocabulary.windows import sliding_windows, windows_table

    opened = open_checkpoint(checkpoint)
    made, plan = sliding_windows(
        read_table(text),
        load_tokenizer(opened.folder, trust_remote_code=own.trust_remote_code),
        settings,
        context=Architecture.of(opened, allow_other=True).context,
        where=f"corpus {settings.corpus or text.stem}",
    )
    write_table(table, windows_table(made))
    write_json(report, {"corpus": settings.corpus or text.stem, "bos": settings.bos, **plan.report()})
    print(plan.text(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
