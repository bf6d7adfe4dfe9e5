"""Running language models: loading, live weights, reversible edits, windows of text and their scores."""
