"""Exact counts of a corpus's tokens, by a model's tokenizer."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.tokens import token_coverage
from weight_atlas.settings.models import OwnCode
from weight_atlas.tokens.corpora import document_batches
from weight_atlas.tokens.model_vocabulary import count_corpus, read_vocabulary
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    text: Path,
    *,
    table: Path,
    summary: Path,
    figure: Path,
    model: str = "model",
    corpus: str = "corpus",
    own: OwnCode,
) -> None:
    """Write the token counts of one model on one corpus, what they amount to, and the coverage figure.

    text: the corpus, a table of documents. model, corpus: names for the figure's title.
    """
    opened = open_checkpoint(checkpoint)
    vocabulary = read_vocabulary(
        opened.folder, opened.config, read_table(tensor_inventory), trust_remote_code=own.trust_remote_code
    )
    counts = count_corpus(vocabulary, document_batches(text))
    write_table(table, counts.table)
    write_json(summary, counts.summary)
    save_figure(figure, token_coverage(counts.table, counts.summary, f"Tokens of {corpus} by {model}"))
    summed = counts.summary
    print(f"{summed['tokens']} tokens of {summed['documents']} documents, {summed['types']} types", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
