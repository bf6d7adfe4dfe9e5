"""Learned token weights: what a vector with one number a token says, by itself and beside how often tokens occur."""
