"""Checkpoints: where they come from, the index of their tensors, and lazy reading, one tensor at a time."""
