"""Interventions on a live model: what is changed, its kinds and controls, and what it does to predictions."""
