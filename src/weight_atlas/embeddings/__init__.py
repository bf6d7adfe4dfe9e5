"""The geometry of a model's vectors: positions and tokens, the rows of projections, attention heads."""
