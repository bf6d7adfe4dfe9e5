"""Exact counts of a corpus's tokens, by a model's tokenizer."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.checkpoint import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.tokens import token_coverage
from weight_atlas.tokens.corpora import document_batches
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.coverage import count_summary
from weight_atlas.tokens.tokenizer import embedding_rows, token_texts, tokenizer_and_source, vocabulary_size
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
    trust_remote_code: bool = False,
) -> None:
    """Write the token counts of one model on one corpus, what they amount to, and the coverage figure.

    text: the corpus, a table of documents. model, corpus: names for the figure's title.
    """
    opened = open_checkpoint(checkpoint)
    tokenizer, ids_from = tokenizer_and_source(opened.folder, trust_remote_code=trust_remote_code)
    vocabulary = vocabulary_size(tokenizer, opened.config, embedding_rows(read_table(tensor_inventory)))
    counted = count_tokens(tokenizer, document_batches(text), vocabulary)
    counts = counted.table(token_texts(tokenizer, vocabulary))
    write_table(table, counts)
    summed = {**count_summary(counted.counts, counted.documents), "tokenizer": ids_from}
    write_json(summary, summed)
    save_figure(figure, token_coverage(counts, summed, f"Tokens of {corpus} by {model}"))
    print(f"{summed['tokens']} tokens of {summed['documents']} documents, {summed['types']} types", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
