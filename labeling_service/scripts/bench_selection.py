"""Measure k-center greedy against full sweeps of the same array, in the same run.

    python -m labeling_service.scripts.bench_selection [--n 1000000] [--d 256] [--k 1000]

Each repeat times one whole selection and its share of the k sweeps in turn, so that other work on
the machine meets both. A few minutes and about 2.5 GB at full size.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from labeling_service.app.core.strategies.kcenter import FloatArray, k_center

Shape = Literal["clusters", "gaussian"]

N_CLUSTERS = 2000
BLOCK_ROWS = 10_000
console = Console()


@dataclass(frozen=True)
class Report:
    """What is written: k-center `k` of `n` x `d`.

    Attributes:
        seconds: of one selection, the median of `repeats`.
        sweep_seconds: of k full sweeps, all of them run.
        ratio: seconds / sweep_seconds.
        peak_mb: the most memory of the whole process, sweeps and checks included, in 10^6 bytes.
        radius_ratio: radius of the cover over that of the greedy in double precision with the same
            start, on the first `radius_n` points.
        seconds_each, sweep_seconds_each: of each repeat.
    """

    n: int
    d: int
    k: int
    seconds: float
    sweep_seconds: float
    ratio: float
    peak_mb: float
    radius_ratio: float
    radius_n: int
    data: Shape
    repeats: int
    seconds_each: list[float]
    sweep_seconds_each: list[float]


class FullSweeps:
    """The plain greedy: every new centre is compared with every point, by BLAS on all cores."""

    def __init__(self, points: NDArray[np.floating], start: int) -> None:
        self._points = points
        self._norms = np.einsum("nd,nd->n", points, points)
        self._nearest = np.full(len(points), np.inf, points.dtype)  # squared
        self._scratch = np.empty_like(self._nearest)
        self._next = start
        self.rows: list[int] = []

    def run(self, n: int) -> None:
        """Choose `n` more points."""
        squares = self._scratch
        for _ in range(n):
            row = self._next
            np.matmul(self._points, self._points[row], out=squares)
            squares *= -2
            squares += self._norms
            squares += self._norms[row]
            np.minimum(self._nearest, squares, out=self._nearest)
            self.rows.append(row)
            self._next = int(np.argmax(self._nearest))


def make_points(n: int, d: int, data: Shape) -> FloatArray:
    """Return made-up embeddings, (n, d): clusters of differing sizes and spreads, or none."""
    rng = np.random.default_rng(0)
    means = rng.standard_normal((N_CLUSTERS, d), dtype=np.float32)
    spreads = rng.uniform(0.2, 1.0, N_CLUSTERS).astype(np.float32)
    sizes = rng.gamma(1.0, size=N_CLUSTERS)
    points = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK_ROWS):
        block = points[start : start + BLOCK_ROWS]
        rng.standard_normal(dtype=np.float32, out=block)
        if data == "clusters":
            cluster = rng.choice(N_CLUSTERS, len(block), p=sizes / sizes.sum())
            block *= spreads[cluster, None]
            block += means[cluster]
    return points


def radius(points: FloatArray, rows: NDArray[np.int64]) -> float:
    """Return the largest distance of a point to the nearest of the chosen rows."""
    centres = points[rows].astype(np.float64)
    norms = np.einsum("nd,nd->n", centres, centres)
    largest = 0.0
    for start in range(0, len(points), BLOCK_ROWS):
        x = points[start : start + BLOCK_ROWS].astype(np.float64)
        squares = (norms - 2 * (x @ centres.T)).min(axis=1) + np.einsum("nd,nd->n", x, x)
        largest = max(largest, float(squares.max()))
    return float(np.sqrt(largest))


def radius_ratio(points: FloatArray, k: int) -> float:
    """Return the radius of k-center's cover over that of the plain greedy in double precision."""
    picks = k_center(points, None, k)
    exact = FullSweeps(points.astype(np.float64), int(picks.indices[0]))
    exact.run(len(picks.indices))
    return radius(points, picks.indices) / radius(points, np.array(exact.rows))


def measure(args: argparse.Namespace) -> Report:
    """Time selection and sweeps in turn, then compare the radius on a part of the points."""
    points = make_points(args.n, args.d, args.data)
    sweeps = FullSweeps(points, int(k_center(points, None, 1).indices[0]))
    seconds, sweep_seconds = [], []
    for part in range(args.repeats):
        n_sweeps = args.k * (part + 1) // args.repeats - args.k * part // args.repeats
        sweep_seconds.append(_timed(partial(sweeps.run, n_sweeps)))
        seconds.append(_timed(partial(k_center, points, None, args.k)))
        console.print(
            f"{part + 1} of {args.repeats}: {args.k} of {args.n} in {seconds[-1]:.1f} s, "
            f"{n_sweeps} sweeps in {sweep_seconds[-1]:.1f} s"
        )
    return Report(
        n=args.n,
        d=args.d,
        k=args.k,
        seconds=statistics.median(seconds),
        sweep_seconds=sum(sweep_seconds),
        ratio=statistics.median(seconds) / sum(sweep_seconds),
        radius_ratio=radius_ratio(points[: args.radius_n], args.k),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        radius_n=min(args.radius_n, args.n),
        data=args.data,
        repeats=args.repeats,
        seconds_each=seconds,
        sweep_seconds_each=sweep_seconds,
    )


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _show(report: Report) -> None:
    table = Table(title=f"k-center, {report.k} of {report.n} x {report.d} ({report.data})")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("at most", justify="right")
    table.add_row("selection, s", f"{report.seconds:.1f}", "")
    table.add_row(f"{report.k} full sweeps, s", f"{report.sweep_seconds:.1f}", "")
    table.add_row("ratio", f"{report.ratio:.3f}", "0.6")
    table.add_row("peak memory, MB", f"{report.peak_mb:.0f}", "4000")
    name = f"radius / exact greedy's ({report.radius_n} points)"
    table.add_row(name, f"{report.radius_ratio:.6f}", "1.02")
    console.print(table)


def main(argv: list[str] | None = None) -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--radius-n", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", choices=["clusters", "gaussian"], default="clusters")
    parser.add_argument("--out", type=Path, default=Path("artifacts/bench/selection.json"))
    args = parser.parse_args(argv)
    report = measure(args)
    _show(report)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(asdict(report), indent=2) + "\n")
    console.print(f"written: {args.out}")


if __name__ == "__main__":
    main()
