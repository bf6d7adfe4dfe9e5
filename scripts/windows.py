"""Sliding windows of token ids that all interventions on a model share, and the report of their settings."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.tokens.tokenizer import load_tokenizer
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    *,
    table: Path,
    report: Path,
    corpus: str | None = None,
    window_len: int | None = None,
    stride: int | None = None,
    tokens: int | None = 30000,
    drop_first_token: bool = False,
    bos: str = "tokenizer",
    trust_remote_code: bool = False,
) -> None:
    """Write the windows of one model over a corpus, and what was checked.

    window_len: none takes 1024, or less where model or corpus allow less. stride: none takes half a window. bos:
    special tokens before each window, as the tokenizer puts them, or a BOS always or never.
    """
    from weight_atlas.families.architecture import Architecture
    from weight_atlas.vocabulary.windows import sliding_windows, windows_table

    opened = open_checkpoint(checkpoint)
    made, plan = sliding_windows(
        read_table(text),
        load_tokenizer(opened.folder, trust_remote_code=trust_remote_code),
        context=Architecture.of(opened, allow_other=True).context,
        where=f"corpus {corpus or text.stem}",
        window_len=window_len,
        stride=stride,
        tokens=tokens,
        drop_first_token=drop_first_token,
        bos=bos,
    )
    write_table(table, windows_table(made))
    write_json(report, {"corpus": corpus or text.stem, "bos": bos, **plan.report()})
    print(plan.text(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
