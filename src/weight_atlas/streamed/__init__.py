"""Streamed models: what is measured of a model whose shards are here one after the other, never all at once."""
