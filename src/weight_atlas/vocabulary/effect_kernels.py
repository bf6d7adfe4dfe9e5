"""Power sums and strongest tokens of every neuron, from one pass over a block of effects while it is in cache."""

import numba
import numpy as np

# Tokens i, i + LANES, i + 2 LANES... form a lane, whose extremes are computed first: compilers vectorize maxima lane by
# lane, not the maximum along an array.
LANES = 256
# Number of effects summed in float32 before they are added in float64.
CHUNK = 256


# Not cached: code read back from the cache sums in another order than code just compiled, and the bytes would differ.
@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def accumulate(effects, first, mean, scale, cos_mean, penalty, sums, cos_sums, up, up_ids, down, down_ids):
    """Add a block of effects to the sums and the strongest tokens of its neurons.

    effects: float32 (n, m) of n neurons on the tokens first, first + 1, ... mean: float32 (n,), subtracted from each
    effect. scale: float32 (m,), factors that turn effects into cosines, up to the neuron's norm; cos_mean: float32
    (n,), subtracted from these. penalty: float32 (m,), 0 for tokens that can be top tokens and infinity for others.
    sums, cos_sums: float64 (n, 4), power sums 1 to 4 of effect - mean and of effect * scale - cos_mean. up, down:
    float32 (n, k), strongest effects so far, descending, padded with -infinity (down holds negated effects); up_ids,
    down_ids: int32 (n, k), their tokens. Ties keep the smaller id.
    """
    n, m = effects.shape
    largest, smallest = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for neuron in range(n):
        values = effects[neuron]
        for start in range(0, m, CHUNK):
            part, factors = values[start : start + CHUNK], scale[start : start + CHUNK]
            _add_powers(part, mean[neuron], sums[neuron])
            _add_scaled_powers(part, factors, cos_mean[neuron], cos_sums[neuron])
        _extremes(values, penalty, largest, smallest)
        _keep(values, first, penalty, largest, np.float32(1.0), up[neuron], up_ids[neuron])
        _keep(values, first, penalty, smallest, np.float32(-1.0), down[neuron], down_ids[neuron])


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def _add_powers(values, centre, sums):
    s1 = s2 = s3 = s4 = np.float32(0.0)
    for token in range(len(values)):
        deviation = values[token] - centre
        square = deviation * deviation
        s1 += deviation
        s2 += square
        s3 += square * deviation
        s4 += square * square
    sums[0] += s1
    sums[1] += s2
    sums[2] += s3
    sums[3] += s4


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def _add_scaled_powers(values, factors, centre, sums):
    s1 = s2 = s3 = s4 = np.float32(0.0)
    for token in range(len(values)):
        deviation = values[token] * factors[token] - centre
        square = deviation * deviation
        s1 += deviation
        s2 += square
        s3 += square * deviation
        s4 += square * square
    sums[0] += s1
    sums[1] += s2
    sums[2] += s3
    sums[3] += s4


@numba.njit(nogil=True)
def _extremes(values, penalty, largest, smallest):
    largest[:] = -np.inf
    smallest[:] = -np.inf
    whole = len(values) // LANES * LANES
    for start in range(0, whole, LANES):
        lanes, excluded = values[start : start + LANES], penalty[start : start + LANES]
        for lane in range(LANES):
            high, low = lanes[lane] - excluded[lane], -lanes[lane] - excluded[lane]
            largest[lane] = high if high > largest[lane] else largest[lane]
            smallest[lane] = low if low > smallest[lane] else smallest[lane]
    for token in range(whole, len(values)):
        high, low = values[token] - penalty[token], -values[token] - penalty[token]
        largest[token - whole] = max(largest[token - whole], high)
        smallest[token - whole] = max(smallest[token - whole], low)


@numba.njit(nogil=True)
def _keep(values, first, penalty, extremes, sign, strongest, ids):
    """Insert a neuron's strongest effects of a block into its list."""
    k = len(strongest)
    # The k-th largest of the list and the lanes' extremes is a lower bound on the k-th largest effect.
    bounds = strongest.copy()
    for lane in range(LANES):
        if extremes[lane] > bounds[k - 1]:
            place = k - 1
            while place > 0 and extremes[lane] > bounds[place - 1]:
                bounds[place] = bounds[place - 1]
                place -= 1
            bounds[place] = extremes[lane]
    bound = bounds[k - 1]
    for lane in range(LANES):
        if extremes[lane] < bound or extremes[lane] == -np.inf:
            continue
        for token in range(lane, len(values), LANES):
            value, token_id = sign * values[token] - penalty[token], first + token
            if value < bound or value == -np.inf:
                continue
            place = k
            # Within lanes tokens are not in their order.
            while place > 0 and (
                value > strongest[place - 1] or (value == strongest[place - 1] and token_id < ids[place - 1])
            ):
                place -= 1
            for move in range(k - 1, place, -1):
                strongest[move], ids[move] = strongest[move - 1], ids[move - 1]
            if place < k:
                strongest[place], ids[place] = value, token_id
