"""Series of checkpoints of one training run: their scalars over the steps, and what these tell."""
