"""Ablations: the effect of changed weights on perplexity and on tasks."""
