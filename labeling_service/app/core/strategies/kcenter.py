"""k-center greedy on large arrays: the choice of the plain greedy, in a fraction of its time."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
FloatArray64 = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK_ROWS = 32768  # points in one matrix product
BLOCK_CENTRES = 256  # centres in one matrix product
BLOCK_PAIRS = 16384  # pairs measured at once in double precision
SHORTLIST_SHARE = 32  # one point in so many is on the shortlist; each pick sweeps all of it
SHORTLIST_MIN = 2048
LARGEST_SQUARE = 1e37  # of a norm; sums of a few must stay below 3e38


class Picks(NamedTuple):
    """The chosen points in the order of choice.

    Attributes:
        indices: shape (k,), rows of the points.
        distances: shape (k,), the Euclidean distance each was chosen for.
    """

    indices: IntArray
    distances: FloatArray64


def k_center(points: FloatArray, centres: FloatArray | None, k: int) -> Picks:
    """Return `k` points by k-center greedy, each the farthest from all centres and earlier picks.

    The choice is that of the plain greedy in double precision, whatever the number of threads. A
    distance to the nearest centre only falls as centres are added, so an old one is an upper bound:
    picks come from a shortlist of the highest bounds for as long as its best beats every bound
    outside; then the new centres are applied to all points by matrix products in single precision.
    Bounds include their rounding error; every distance that decides is measured in double.

    Args:
        points: shape (P, D).
        centres: shape (L, D), covered already; None or L = 0 starts at the point nearest to the
            mean.
        k: how many; at most P are returned.

    Returns:
        Rows and distances, in the order of choice; ties by lower row.

    Raises:
        ValueError: an array is not float32 (n, D), the widths differ, `k` is negative, or a row
            holds a value that is not finite or too large to be squared.

    Source:
        Gonzalez 1985 (doi:10.1016/0304-3975(85)90224-5), the greedy and its factor of two; Sener
        and Savarese 2018 (arXiv:1708.00489), its use for active learning; Minoux 1978
        (doi:10.1007/BFb0006528), choosing by outdated bounds.
    """
    sums = _column_sums("points", points)
    if centres is not None:
        _column_sums("centres", centres)
        if centres.shape[1] != points.shape[1]:
            raise ValueError(f"centres have {centres.shape[1]} features, points {points.shape[1]}")
    if k < 0:
        raise ValueError(f"k must not be negative: {k}")
    k = min(k, len(points))
    if k == 0:
        return Picks(np.zeros(0, np.int64), np.zeros(0))
    return _Greedy(points, centres, sums / len(points), k).run()


def _column_sums(name: str, array: FloatArray) -> FloatArray64:
    """Return the sum of the rows, (D,); it is finite only if every value is."""
    if array.dtype != np.float32 or array.ndim != 2:
        raise ValueError(f"{name} must be float32 (n, D): {array.dtype} {array.shape}")
    with np.errstate(invalid="ignore"):
        sums = np.asarray(array.sum(axis=0, dtype=np.float64))
    if not np.isfinite(sums).all():
        row = next(i for i, values in enumerate(array) if not np.isfinite(values).all())
        raise ValueError(f"{name} row {row} holds a value that is not finite")
    return sums


class _Centres:
    """All centres so far, C of them, kept as they are and shifted against cancellation."""

    def __init__(self, shift: FloatArray, capacity: int) -> None:
        self.shift = shift
        self.n = 0
        self._raw = np.empty((capacity, len(shift)), np.float32)
        self._shifted = np.empty_like(self._raw)
        self._norms = np.empty(capacity, np.float32)
        # |computed - true| <= slack * (|x|^2 + |c|^2) + tiny holds for dot products of D terms
        # summed in any order (Higham 2002, section 3.1), with room for the shift and the sums.
        self._slack = (len(shift) + 16) * float(np.finfo(np.float32).eps)
        self._tiny = (len(shift) + 16) * float(np.finfo(np.float32).tiny)

    def add(self, rows: FloatArray) -> None:
        """Take more centres, shape (n, D)."""
        new = slice(self.n, self.n + len(rows))
        self._raw[new] = rows
        np.subtract(rows, self.shift, out=self._shifted[new])
        self._norms[new] = _squared_norms("centres", self._shifted[new])
        self.n += len(rows)

    def upper_bounds(self, x: FloatArray, norms: FloatArray, start: int) -> FloatArray64:
        """Return an upper bound of the distance to the nearest centre from `start` on, (n,).

        Shapes: shifted points `x` (n, D), their squared `norms` (n,).
        """
        best = np.full(len(x), np.inf, np.float32)
        for first in range(start, self.n, BLOCK_CENTRES):
            squares = self._upper_squares(x, slice(first, min(first + BLOCK_CENTRES, self.n)))
            np.minimum(best, squares.min(axis=0), out=best)
        return _distances_of(best + norms.astype(np.float64) + self._margins(norms))

    def newest_bounds(self, x: FloatArray, norms: FloatArray) -> tuple[FloatArray64, FloatArray64]:
        """Return lower and upper bounds of the distances to the newest centre, (n,) each."""
        # One thread: on busy cores, starting BLAS's threads takes longer than the products.
        products = np.einsum("nd,d->n", x, self._shifted[self.n - 1])
        norm = float(self._norms[self.n - 1])
        squares = norms - 2.0 * products.astype(np.float64) + norm
        margins = self._margins(norms) + norm * self._slack
        return _distances_of(squares - margins), _distances_of(squares + margins)

    def distances(self, points: FloatArray) -> FloatArray64:
        """Return the distance of points (n, D) to their nearest centre, in double precision."""
        found = np.empty(len(points))
        step = max(1, BLOCK_ROWS * BLOCK_CENTRES // self.n)
        for a in range(0, len(points), step):
            found[a : a + step] = self._distances(points[a : a + step])
        return found

    def _distances(self, points: FloatArray) -> FloatArray64:
        x = points - self.shift
        squares = self._upper_squares(x, slice(0, self.n))
        limit = squares.min(axis=0) + 2 * self._margins(_squared_norms("points", x))
        limit = np.nextafter(limit.astype(np.float32), np.float32(np.inf))
        squares -= np.float32(2 * self._slack) * self._norms[: self.n, None]  # now lower bounds
        rows, nearest = np.nonzero((squares <= limit).T)
        measured = _measure(points, rows, self._raw, nearest)
        starts = np.searchsorted(rows, np.arange(len(points)))
        return np.asarray(np.minimum.reduceat(measured, starts))

    def doubt(self, distance: float) -> float:
        """Return how far the root of a point's squared norm may be from its true value."""
        return self._slack * distance + math.sqrt(self._tiny)

    def _upper_squares(self, x: FloatArray, which: slice) -> FloatArray:
        """Return |c|^2 - 2 x.c and the centres' share of its error, shape (centres, n)."""
        squares = self._shifted[which] @ x.T
        squares *= -2
        squares += (self._norms[which] * np.float32(1 + self._slack))[:, None]
        return squares

    def _margins(self, norms: FloatArray) -> FloatArray64:
        """Return the points' share of the error."""
        return np.asarray(norms.astype(np.float64) * self._slack + self._tiny)


class _Shortlist:
    """The M points with the highest bounds, by rising row, and what is known of the others.

    Attributes:
        rows: shape (M,).
        bounds: shape (M,), upper bounds of the distance to the nearest centre; chosen ones -1.
        level, next_row: no point outside has a higher bound than `level`, and none of a row below
            `next_row` has that one.
    """

    def __init__(self, points: FloatArray, bounds: FloatArray64, centres: _Centres) -> None:
        n = min(len(points), max(SHORTLIST_MIN, len(points) // SHORTLIST_SHARE))
        self.level = float(np.partition(bounds, len(points) - n)[len(points) - n])
        above, level = np.flatnonzero(bounds > self.level), np.flatnonzero(bounds == self.level)
        n_level = n - len(above)
        self.next_row = int(level[n_level]) if n_level < len(level) else len(points)
        self.rows = np.sort(np.concatenate((above, level[:n_level])))
        self.bounds = bounds[self.rows]
        self._measured = self.bounds <= 0
        self._points, self._centres = points, centres
        self._x = points[self.rows] - centres.shift
        self._norms = _squared_norms("points", self._x)

    def best(self) -> int | None:
        """Return the place of the farthest of all points, or None where it may be outside."""
        share = 1e-3
        while not self._measured[i := int(np.argmax(self.bounds))]:
            rivals = self.bounds >= self.bounds[i] * (1 - share)
            which = np.flatnonzero(rivals & ~self._measured)
            self.bounds[which] = self._centres.distances(self._points[self.rows[which]])
            self._measured[which] = True
            share = min(1.0, 2 * share)
        bound = self.bounds[i]
        wins = bound > self.level or (bound == self.level and self.rows[i] < self.next_row)
        return i if wins else None

    def choose(self, i: int) -> None:
        """Make the point at place `i` a centre."""
        self._centres.add(self._points[self.rows[i]][None])
        self.bounds[i] = -1.0
        lower, upper = self._centres.newest_bounds(self._x, self._norms)
        self._measured &= lower >= self.bounds
        np.minimum(self.bounds, upper, out=self.bounds)
        self._measured[i] = True


class _Greedy:
    """The points with an upper bound each, the centres, and what was chosen."""

    def __init__(
        self, points: FloatArray, centres: FloatArray | None, mean: FloatArray64, k: int
    ) -> None:
        self._points, self._mean, self._k = points, mean, k
        given = points[:0] if centres is None else centres
        self._centres = _Centres(mean.astype(np.float32), len(given) + k)
        self._centres.add(given)
        self._n_applied = 0
        self._norms = np.concatenate([_squared_norms("points", x) for _, x in self._blocks()])
        self._bounds = np.full(len(points), np.inf)
        self._rows: list[int] = []
        self._distances: list[float] = []

    def run(self) -> Picks:
        """Choose k points."""
        if self._centres.n == 0:
            self._start()
        while len(self._rows) < self._k:
            self._apply()
            shortlist = _Shortlist(self._points, self._bounds, self._centres)
            while len(self._rows) < self._k and (i := shortlist.best()) is not None:
                self._rows.append(int(shortlist.rows[i]))
                self._distances.append(float(shortlist.bounds[i]))
                shortlist.choose(i)
            self._bounds[shortlist.rows] = shortlist.bounds
        return Picks(np.array(self._rows, np.int64), np.array(self._distances))

    def _start(self) -> None:
        """Choose the point nearest to the mean: measure those that rounding cannot tell apart."""
        shift = self._centres.shift.astype(np.float64)
        distances = np.sqrt(self._norms.astype(np.float64))
        doubt = float(np.linalg.norm(self._mean - shift)) + self._centres.doubt(distances.min())
        rivals = np.flatnonzero(distances <= distances.min() + 2 * doubt)
        measured = _measure(self._points, rivals, self._mean[None], np.zeros_like(rivals))
        nearest = int(np.argmin(measured))
        row = int(rivals[nearest])
        self._rows.append(row)
        self._distances.append(float(measured[nearest]))
        self._centres.add(self._points[row][None])
        self._bounds[row] = -1.0

    def _apply(self) -> None:
        """Lower all bounds by the centres that they do not know yet."""
        if self._n_applied == self._centres.n:
            return
        for block, x in self._blocks():
            upper = self._centres.upper_bounds(x, self._norms[block], self._n_applied)
            np.minimum(self._bounds[block], upper, out=self._bounds[block])
        self._n_applied = self._centres.n

    def _blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield blocks of rows with their shifted points; the next block overwrites them."""
        scratch = np.empty((min(BLOCK_ROWS, len(self._points)), self._points.shape[1]), np.float32)
        for start in range(0, len(self._points), BLOCK_ROWS):
            block = slice(start, min(start + BLOCK_ROWS, len(self._points)))
            out = scratch[: block.stop - start]
            yield block, np.subtract(self._points[block], self._centres.shift, out=out)


def _squared_norms(name: str, x: FloatArray) -> FloatArray:
    norms = np.einsum("nd,nd->n", x, x)
    if len(norms) and not norms.max() <= LARGEST_SQUARE:
        raise ValueError(f"{name} hold values too large to be squared: |x|^2 = {norms.max():.3g}")
    return np.asarray(norms)


def _measure(
    points: FloatArray, rows: IntArray, others: NDArray[np.floating], which: IntArray
) -> FloatArray64:
    """Return the distances between points[rows] and others[which], shape (n,)."""
    measured = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK_PAIRS):
        pairs = slice(start, start + BLOCK_PAIRS)
        difference = points[rows[pairs]].astype(np.float64) - others[which[pairs]]
        measured[pairs] = np.linalg.norm(difference, axis=1)
    return measured


def _distances_of(squares: FloatArray64) -> FloatArray64:
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))
