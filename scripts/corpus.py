"""Bring a corpus here, as a table of documents."""

from pathlib import Path

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.tokens.corpora import describe_corpus, read_corpus
from weight_atlas.workflow.step import run_step


def main(
    files: list[Path] | None = None,
    *,
    table: Path,
    description: Path,
    source: str | list[str],
    name: str | None = None,
    split: str | None = None,
    column: str = "text",
    group_column: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
) -> None:
    """Write the documents of one corpus, and what identifies it: source, size and hash.

    files: the local files that the source consists of, as far as the workflow could see them; none for other sources.
    """
    print(f"{source}: {len(files)} local files" if files else source, flush=True)
    corpus = read_corpus(
        source,
        name=name,
        split=split,
        column=column,
        group_column=group_column,
        revision=revision,
        limit=limit,
    )
    described = describe_corpus(corpus, source, split)
    write_table(table, corpus)
    write_json(description, described)
    print(f"{described['documents']} documents, {described['bytes']} bytes, sha256 {described['sha256']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
