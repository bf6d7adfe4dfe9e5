"""Text and tokens: corpora as tables of documents, exact token counts, coverage of the vocabulary."""
