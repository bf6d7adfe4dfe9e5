"""Rounding weights to number formats and back: what it costs, and which format to give which tensor."""
