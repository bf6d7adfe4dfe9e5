"""Distributions of weights: exact histograms of values, and what follows from them."""
