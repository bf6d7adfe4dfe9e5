"""Circuits read from the weights alone: how heads compose, what they copy, and which tokens their directions name."""
