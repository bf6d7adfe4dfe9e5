"""Quantized checkpoints: packed values and their scales, unfolded lazily to the values that the model computes with."""
