"""Kinds of change that make no sense on a model."""


class Impossible(Exception):
    """A kind of change that makes no sense on this model; the message says why."""
