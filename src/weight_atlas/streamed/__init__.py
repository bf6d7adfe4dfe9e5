"""Weights that pass by: what is measured of a model whose shards are here one after the other, and never all."""
