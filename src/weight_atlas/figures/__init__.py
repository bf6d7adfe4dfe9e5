"""Figures: one function per figure, a DataFrame in, a matplotlib Figure out, one style."""
