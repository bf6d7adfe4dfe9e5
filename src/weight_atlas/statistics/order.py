"""The order of many numbers, a part at a time."""

from collections.abc import Iterator

import numpy as np

# Numbers in a band, about, and numbers drawn to find where bands end.
BAND, SAMPLE = 1 << 21, 1 << 16


def ordered(values: np.ndarray, *, last_first: bool = False) -> Iterator[np.ndarray]:
    """The indices of values (n,) from the smallest to the largest, in bands: together argsort(values, kind="stable").

    A band holds about BAND indices, more where as many values are equal; NaN are last. last_first: the bands of the
    largest values first, each still from its smallest to its largest.
    """
    drawn = values[np.random.default_rng(0).integers(len(values), size=SAMPLE)] if len(values) > BAND else values[:0]
    drawn = np.sort(drawn[~np.isnan(drawn)])
    bands = -(-len(values) // BAND)
    edges = np.unique(drawn[np.arange(1, bands) * len(drawn) // bands]) if len(drawn) else drawn
    for band in range(len(edges), -1, -1) if last_first else range(len(edges) + 1):
        inside = ~(values < edges[band - 1]) if band else np.ones(len(values), dtype=bool)
        if band < len(edges):
            inside &= values < edges[band]
        index = np.flatnonzero(inside)
        yield index[np.argsort(values[index], kind="stable")]
