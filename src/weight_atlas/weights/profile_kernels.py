"""Compiled passes that profile a matrix by rows and columns, in a fixed order of summation (see profile.py)."""

import numpy as np

from weight_atlas.weights.kernels import compiled, folded

LANES = 32  # sums side by side: as many as fill the vector registers of any processor; as in profile_few.py
_TOGETHER = 4  # rows that are added to the sums of columns while these are in registers
_MAGNITUDE = 0x7FFF_FFFF_FFFF_FFFF
_INFINITE = 0x7FF0_0000_0000_0000


@compiled
def widen_bfloat16(patterns, out):
    """Write the values of bfloat16 patterns (uint16) as float64."""
    bits = np.empty(patterns.size, np.uint32)
    for i in range(patterns.size):
        bits[i] = np.uint32(patterns[i]) << np.uint32(16)
    values = bits.view(np.float32)
    for i in range(patterns.size):
        out[i] = values[i]


@compiled
def widen_float16(patterns, out):
    """Write the values of float16 patterns (uint16) as float64; infinities and NaN become NaN.

    A float16 whose bits are moved to their places in a float32 is too small by 2^112, the difference of the exponents'
    offsets; multiplying by it in float64 is exact, for subnormal numbers too.
    """
    bits = np.empty(patterns.size, np.uint32)
    for i in range(patterns.size):
        pattern = np.uint32(patterns[i])
        bits[i] = (pattern & np.uint32(0x8000)) << np.uint32(16) | (pattern & np.uint32(0x7FFF)) << np.uint32(13)
    values = bits.view(np.float32)
    for i in range(patterns.size):
        value = np.float64(values[i]) * 5192296858534827628530496329220096.0
        out[i] = value if abs(value) < 65536.0 else np.nan


@compiled
def profile_rows(x, first, height, width, tile, by_row, by_column, band, cells):
    """Add rows of a matrix to its profile.

    x: (rows, columns) float64, C-contiguous; its elements that are not finite are set to 0. first: number of its first
    row in the matrix. height, width: rows and columns of a cell. tile: columns that are summed together, a whole number
    of cells. by_row (5, rows of the matrix), by_column (5, columns): sums, sums of squares, largest magnitudes, zeros,
    elements that are not finite. band (3, columns): the first three, of the rows of the present band. cells (3, bands,
    cells of a band): sums, largest magnitudes, elements that are not finite.
    """
    rows, columns = x.shape
    flat = x.reshape(-1)
    sums, squares, largest = band[0], band[1], band[2].view(np.int64)
    lanes, lane_squares = np.empty(LANES), np.empty(LANES)
    row_largest = by_row[2].view(np.int64)  # magnitudes order as the integers of their bits do
    for start in range(0, columns, tile):
        size = min(tile, columns - start)
        done = 0
        while done < rows:
            row = first + done
            count = min(_TOGETHER, rows - done, height - row % height)
            for r in range(done, done + count):
                begin = r * columns + start
                least, most = _extremes(flat, begin, size)
                if least == 0 or most >= _INFINITE:
                    part = flat[begin : begin + size]
                    _count_rare(part, first + r, start, width, by_row, by_column, cells[2, row // height])
                    least, most = _extremes(flat, begin, size)
                _add_to_lanes(flat, begin, size, lanes, lane_squares)
                row_largest[first + r] = max(row_largest[first + r], most)
                by_row[0, first + r] += folded(lanes)
                by_row[1, first + r] += folded(lane_squares)
            if count == _TOGETHER:
                _add_four(flat, done * columns + start, columns, start, size, sums, squares, largest)
            else:
                for r in range(done, done + count):
                    _add_one(flat, r * columns + start, start, size, sums, squares, largest)
            done += count
            if (row + count) % height == 0 or row + count == by_row.shape[1]:
                _close_band(
                    start, start + size, width, band, by_column, cells[0, row // height], cells[1, row // height]
                )


# Indices are unsigned below: an index that might be negative, counted from the end, keeps loops off vector registers.


@compiled
def _extremes(flat, begin, size):
    """The smallest and the largest magnitude of some elements, as integers of their bits."""
    bits, begin = flat.view(np.int64), np.uint64(begin)
    least, most = np.int64(_MAGNITUDE), np.int64(0)
    for j in range(np.uint64(size)):
        magnitude = bits[begin + j] & _MAGNITUDE
        least = min(least, magnitude)
        most = max(most, magnitude)
    return least, most


@compiled
def _add_to_lanes(flat, begin, size, lanes, lane_squares):
    begin, whole = np.uint64(begin), size - size % LANES
    for lane in range(LANES):
        lanes[lane] = lane_squares[lane] = 0.0
    for j in range(np.uint64(0), np.uint64(whole), np.uint64(LANES)):
        for lane in range(np.uint64(LANES)):
            value = flat[begin + j + lane]
            lanes[lane] += value
            lane_squares[lane] += value * value
    for lane in range(np.uint64(size - whole)):
        value = flat[begin + np.uint64(whole) + lane]
        lanes[lane] += value
        lane_squares[lane] += value * value


@compiled
def _add_one(flat, begin, start, size, sums, squares, largest):
    """Add a row to the sums, sums of squares and largest magnitudes of columns."""
    bits, begin, start = flat.view(np.int64), np.uint64(begin), np.uint64(start)
    for j in range(np.uint64(size)):
        value = flat[begin + j]
        sums[start + j] += value
        squares[start + j] += value * value
        largest[start + j] = max(largest[start + j], bits[begin + j] & _MAGNITUDE)


@compiled
def _add_four(flat, begin, columns, start, size, sums, squares, largest):
    """Add four rows, one after the other, as _add_one does."""
    a, start, columns = np.uint64(begin), np.uint64(start), np.uint64(columns)
    b, c, d = a + columns, a + columns + columns, a + columns + columns + columns
    for j in range(np.uint64(size)):
        i, k, m, n = flat[a + j], flat[b + j], flat[c + j], flat[d + j]
        sums[start + j] = sums[start + j] + i + k + m + n
        squares[start + j] = squares[start + j] + i * i + k * k + m * m + n * n
    bits = flat.view(np.int64)
    for j in range(np.uint64(size)):
        one = max(bits[a + j] & _MAGNITUDE, bits[b + j] & _MAGNITUDE)
        other = max(bits[c + j] & _MAGNITUDE, bits[d + j] & _MAGNITUDE)
        largest[start + j] = max(largest[start + j], max(one, other))


@compiled
def _count_rare(tile, row, start, width, by_row, by_column, lost_cells):
    """Count zeros and elements that are not finite, and set these to 0."""
    for j in range(tile.size):
        if tile[j] == 0:
            by_row[3, row] += 1
            by_column[3, start + j] += 1
        elif not np.isfinite(tile[j]):
            by_row[4, row] += 1
            by_column[4, start + j] += 1
            lost_cells[(start + j) // width] += 1
            tile[j] = 0.0


@compiled
def _close_band(start, end, width, band, by_column, cell_sums, cell_largest):
    """Add the sums of a band's columns to those of the matrix and of the cells, and begin a new band."""
    for k in range(np.uint64(start), np.uint64(end)):
        by_column[0, k] += band[0, k]
        by_column[1, k] += band[1, k]
        by_column[2, k] = max(by_column[2, k], band[2, k])
    for k in range(width):  # each cell in turn, so that additions need not wait for one another
        cell = start // width
        for j in range(start + k, end, width):
            cell_sums[cell] += band[0, j]
            cell_largest[cell] = max(cell_largest[cell], band[2, j])
            cell += 1
    band[:, start:end] = 0.0
