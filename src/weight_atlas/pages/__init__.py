"""The page of a model: headline, figures, tables, each with how to read it."""
