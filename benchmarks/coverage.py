"""How often intervals over seeds contain the truth, and how long they are.

python -m benchmarks.coverage

Draws the scores of so many seeds from laws whose mean is known: seeds that fail now and then,
normal and skewed ones, and the final scores of real agents (benchmarks.final_scores). Prints, for
every interval that Trialfleet prints and for the percentile bootstrap that it printed before, the
share that contains the truth and the mean length; the same where seeds are trained in blocks until
the interval is narrow; and how often `compare` tells two samples of one law apart.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks import final_scores
from coordinator.intervals import (
    mean_interval,
    median_interval,
    share_at_least,
    student_interval,
)
from coordinator.report.difference import compare
from trialfleet.study.returns import Returns
from trialfleet.study.values import center

Array = NDArray[np.float64]
Ends = tuple[float, float]
Scores = tuple[float, ...]  # sorted
SEEDS = (2, 3, 5, 8, 12, 20, 30, 60)
CARTPOLE, ACROBOT = Returns(low=0.0, high=500.0), Returns(low=-500.0, high=0.0)
_MOST = 200_000  # combinations of counts that are gone through one by one
_RESAMPLES = 2_000
_BLOCK, _MOST_SEEDS = 4, 60  # of the stopping rule
_APART = (2, 3, 5, 8, 12, 30)  # seeds of each of two studies
_IQM = (5, 10, 20, 40)
_OTHERS = (5, 12, 30, 60)
_POINT = 1e-9  # a sum's last bits, by which an interval may miss a mean that it ends at


@dataclass(frozen=True, kw_only=True)
class Law:
    """What the scores of seeds are drawn from: finitely many values, or any density."""

    name: str
    returns: Returns | None  # bounds that everybody knows of
    values: Sequence[float] = ()
    chances: Sequence[float] = ()
    density: Callable[[np.random.Generator, tuple[int, int]], Array] | None = None
    density_mean: float = math.nan

    @property
    def mean(self) -> float:
        """The truth."""
        if self.density is not None:
            return self.density_mean
        return float(np.dot(self.values, self.chances))

    def rng(self, *what: int) -> np.random.Generator:
        """Random draws of its own: laws that shared theirs would err together."""
        return np.random.default_rng([*what, zlib.crc32(self.name.encode())])

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Array:
        """Draw samples [repeats, seeds]."""
        if self.density is not None:
            return self.density(rng, size)
        drawn: Array = rng.choice(np.asarray(self.values), p=np.asarray(self.chances), size=size)
        return drawn

    def samples(
        self, rng: np.random.Generator, seeds: int, repeats: int
    ) -> Iterator[tuple[float, Scores]]:
        """All samples with their probabilities, where they are few; else as many as asked for."""
        count = len(self.values)
        if self.density is None and math.comb(seeds + count - 1, count - 1) <= min(
            _MOST, 10 * repeats
        ):
            yield from self._all(seeds)
        else:
            for row in np.sort(self.draw(rng, (repeats, seeds)), axis=1):
                yield 1 / repeats, tuple(row.tolist())

    def _all(self, seeds: int) -> Iterator[tuple[float, Scores]]:
        order = np.argsort(self.values)
        for cut in itertools.combinations(range(seeds + len(order) - 1), len(order) - 1):
            edges = (-1, *cut, seeds + len(order) - 1)
            counts = [b - a - 1 for a, b in itertools.pairwise(edges)]
            ways, left = 1.0, seeds
            scores: list[float] = []
            for place, count in zip(order, counts, strict=True):
                ways *= math.comb(left, count) * self.chances[place] ** count
                left -= count
                scores += [float(self.values[place])] * count
            yield ways, tuple(scores)


def laws() -> list[Law]:
    """The laws that matter: good studies end near the highest return, where few seeds fail."""
    found = [
        Law(name=f"500, or 150 ({p:g})", returns=CARTPOLE, values=(150, 500), chances=(1 - p, p))
        for p in (0.7, 0.9, 0.95, 0.97, 0.99)
    ]
    found += [
        Law(
            name="500, 200, 10 (.80 .15 .05)",
            returns=CARTPOLE,
            values=(10, 200, 500),
            chances=(0.05, 0.15, 0.8),
        ),
        Law(
            name="500, 300, 9 (.97 .02 .01)",
            returns=CARTPOLE,
            values=(9, 300, 500),
            chances=(0.01, 0.02, 0.97),
        ),
        Law(
            name="normal, 250 ± 25",
            returns=CARTPOLE,
            density=lambda rng, size: rng.normal(250, 25, size),
            density_mean=250.0,
        ),
        Law(
            name="skewed, 500 · beta(4, 0.6)",
            returns=CARTPOLE,
            density=lambda rng, size: 500 * rng.beta(4, 0.6, size),
            density_mean=500 * 4 / 4.6,
        ),
    ]
    for name in final_scores.SETTINGS:
        pool = final_scores.scores(name)
        if pool:
            env = name.split()[0]
            known = {"cartpole": CARTPOLE, "acrobot": ACROBOT}.get(env)
            found.append(_of_pool(name, pool, known))
    return found


def _of_pool(name: str, pool: Sequence[float], returns: Returns | None) -> Law:
    values, counts = np.unique(pool, return_counts=True)
    return Law(
        name=f"pool: {name}",
        returns=returns,
        values=values.tolist(),
        chances=(counts / counts.sum()).tolist(),
    )


def main() -> int:
    """Print all tables."""
    options = _parse()
    repeats = options.repeats
    chosen = [at for at, law in enumerate(laws()) if options.law in law.name]
    sections: list[tuple[str, str, str, int]] = [
        (
            "Intervals of the mean over a fixed number of seeds: share that contains it, length",
            "fixed",
            f"{'law':30} {'interval':9} " + "".join(f"{seeds:>14}" for seeds in SEEDS),
            repeats,
        ),
        (
            f"Blocks of {_BLOCK} seeds until the interval is a fifth of the range long, at most "
            f"{_MOST_SEEDS} seeds",
            "stopping",
            f"{'law':30} {'interval':17} {'seeds':>6} {'length':>7} {'holds at the end':>17}"
            f" {'holds at every look':>20}",
            max(repeats // 2, 50),
        ),
        (
            "The median's interval: share that contains it, mean length",
            "medians",
            f"{'law':30} " + "".join(f"{seeds:>14}" for seeds in SEEDS),
            repeats,
        ),
        (
            "Two samples of one law: how often they are told apart",
            "told_apart",
            f"{'law':30} {'rule':12} " + "".join(f"{size:>8}" for size in _APART),
            2 * repeats,
        ),
        (
            "Percentile bootstrap of the interquartile mean: share that contains it",
            "iqm",
            f"{'law':30} " + "".join(f"{size:>8}" for size in _IQM),
            repeats,
        ),
    ]
    if options.others:
        sections.append(
            (
                "Mean length of other intervals for bounded values, by that of the printed one",
                "others",
                f"{'law':30} {'interval':22} " + "".join(f"{size:>8}" for size in _OTHERS),
                max(repeats // 5, 50),
            )
        )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for title, section, head, samples in sections:
            parts = pool.map(_lines, [(section, law, samples) for law in chosen])
            print("\n".join([title, head, *itertools.chain(*parts)]), end="\n\n", flush=True)
    print("\n".join(shares(4 * repeats)))
    return 0


def _lines(part: tuple[str, int, int]) -> list[str]:
    """The lines of one law in one section."""
    section, law, repeats = part
    found: dict[str, Callable[[Law, int], list[str]]] = {
        "fixed": fixed,
        "stopping": stopping,
        "medians": medians,
        "told_apart": told_apart,
        "iqm": iqm,
        "others": others,
    }
    return found[section](laws()[law], repeats)


def fixed(law: Law, repeats: int) -> list[str]:
    """A line for each interval, two figures for each number of seeds."""
    kinds: dict[str, Callable[[Scores], Ends | None]] = {
        "bounded": cache(lambda scores: _bounded(scores, law)),
        "student": cache(lambda scores: _ends(student_interval(scores))),
        "former": cache(former_interval),
    }
    cells: dict[str, list[str]] = {kind: [] for kind in kinds}
    for seeds in SEEDS:
        samples = [*law.samples(law.rng(seeds, 1), seeds, repeats)]
        for kind, interval in kinds.items():
            cells[kind].append(_cell(samples, interval, law.mean))
    return [
        f"{law.name:30} {kind:9} {''.join(row)}"
        for kind, row in cells.items()
        if any(cell.strip() != "–" for cell in row)
    ]


def stopping(law: Law, repeats: int) -> list[str]:
    """The same where the scores decide how many seeds there are."""
    kinds: dict[str, Callable[[Scores], Ends | None]] = {
        "bounded": cache(lambda scores: _bounded(scores, law)),
        "student-sequence": cache(lambda scores: _ends(student_interval(scores, sequential=True))),
        "student": cache(lambda scores: _ends(student_interval(scores))),
        "former": cache(former_interval),
    }
    width = 0.2 * (law.returns.width if law.returns else 500.0)
    drawn = law.draw(law.rng(9), (repeats, _MOST_SEEDS))
    lines = []
    for kind, interval in kinds.items():
        if kind == "bounded" and law.returns is None:
            continue
        ends = [_until(row, interval, width, law.mean) for row in drawn]
        seeds, length, held, always = np.mean(ends, axis=0)
        lines.append(
            f"{law.name:30} {kind:17} {seeds:6.1f} {length:7.1f} {held:17.1%} {always:20.1%}"
        )
    return lines


def shares(repeats: int) -> list[str]:
    """The bound of the share of seeds that solve the task, looked at after every block."""
    lines = []
    at_least = cache(share_at_least)
    for share in (0.7, 0.9, 0.97):
        solved = np.random.default_rng(4).random((repeats, _MOST_SEEDS)) < share
        wrong = {False: 0, True: 0}
        for row in solved.cumsum(axis=1):
            for sequential in wrong:
                wrong[sequential] += any(
                    at_least(int(row[seeds - 1]), seeds, sequential=sequential) > share
                    for seeds in range(_BLOCK, _MOST_SEEDS + 1, _BLOCK)
                )
        lines.append(
            f"{share:.0%} of seeds solve it: the lower bound for blocks is right after every one "
            f"in {1 - wrong[True] / repeats:.1%}, Clopper and Pearson's in "
            f"{1 - wrong[False] / repeats:.1%}"
        )
    return lines


def medians(law: Law, repeats: int) -> list[str]:
    """The interval between order statistics."""
    truth = _median(law)
    row = []
    for seeds in SEEDS:
        samples = [*law.samples(law.rng(seeds, 2), seeds, repeats)]
        row.append(_cell(samples, lambda scores: _ends(median_interval(scores)), truth))
    return [f"{law.name:30} {''.join(row)}"]


def told_apart(law: Law, repeats: int) -> list[str]:
    """By the permutation test, and by whether the former interval of the difference holds zero."""
    cells: dict[str, list[str]] = {"permutation": [], "former": []}
    for size in _APART:
        count = repeats if size < 12 else max(repeats // 4, 20)
        pairs = law.draw(law.rng(size, 3), (count, 2 * size))
        apart = [compare(row[:size], row[size:]).told_apart for row in pairs]
        before = [_former_apart(row[:size], row[size:]) for row in pairs]
        cells["permutation"].append(f"{np.mean(apart):8.1%}")
        cells["former"].append(f"{np.mean(before):8.1%}")
    return [f"{law.name:30} {rule:12} {''.join(row)}" for rule, row in cells.items()]


def iqm(law: Law, repeats: int) -> list[str]:
    """An interval that is not printed."""
    truth = float(center(law.draw(law.rng(5), (1, 400_000))[0], "iqm"))
    slack = 0.002 * (1 + abs(truth))  # the truth is itself drawn
    row = []
    for size in _IQM:
        rng = law.rng(size, 6)
        held = 0
        for sample in law.draw(rng, (repeats, size)):
            drawn = sample[rng.integers(size, size=(_RESAMPLES, size))]
            low, high = np.quantile(center(drawn, "iqm"), [0.025, 0.975])
            held += low - slack <= truth <= high + slack
        row.append(f"{held / repeats:8.1%}")
    return [f"{law.name:30} {''.join(row)}"]


def others(law: Law, repeats: int) -> list[str]:
    """What else there is for bounded values, by the length of what is printed."""
    if law.returns is None:
        return []
    kinds: dict[str, Callable[[Array, np.random.Generator], float]] = {
        "Learned-Miller, Thomas": _length_of_dirichlet,
        "hedged, predictable": _length_of_predictable,
        "empirical Bernstein": _length_of_bernstein,
    }
    cells: dict[str, list[str]] = {kind: [] for kind in kinds}
    for size in _OTHERS:
        rng = law.rng(size, 7)
        drawn = law.draw(rng, (repeats, size))
        scaled = (drawn - law.returns.low) / law.returns.width
        printed = [_bounded(tuple(row.tolist()), law) for row in drawn]
        ours = np.mean([(high - low) / law.returns.width for low, high in filter(None, printed)])
        for kind, length in kinds.items():
            cells[kind].append(f"{np.mean([length(row, rng) for row in scaled]) / ours:8.2f}")
    return [f"{law.name:30} {kind:22} {''.join(row)}" for kind, row in cells.items()]


def former_interval(scores: Sequence[float]) -> Ends:
    """The percentile bootstrap of the mean that earlier versions printed."""
    values = np.asarray(scores, dtype=float)
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _former_apart(first: Array, second: Array) -> bool:
    """Whether the bootstrap interval of the difference leaves out zero, the former rule."""
    rng = np.random.default_rng(0)
    means = [
        values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
        for values in (first, second)
    ]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return not low <= 0.0 <= high


def _bounded(scores: Scores, law: Law) -> Ends | None:
    found = mean_interval(scores, law.returns)
    return None if found is None or found.method != "bounded" else (found.low, found.high)


def _ends(found: object) -> Ends | None:
    return None if found is None else (found.low, found.high)  # type: ignore[attr-defined]


def _cell(
    samples: Sequence[tuple[float, Scores]],
    interval: Callable[[Scores], Ends | None],
    truth: float,
) -> str:
    """The share that contains the truth, and the mean length, of the samples with an interval.

    Equal scores have no Student's interval. A dash where no sample has one.
    """
    held = length = given = 0.0
    for chance, scores in samples:
        ends = interval(scores)
        if ends is None:
            continue
        given += chance
        length += chance * (ends[1] - ends[0])
        held += chance * (ends[0] - _POINT <= truth <= ends[1] + _POINT)
    if given < 1e-12:
        return f"{'–':>14}"
    return f"{held / given:7.1%} {length / given:6.1f}"


def _until(
    row: Array, interval: Callable[[Scores], Ends | None], width: float, truth: float
) -> tuple[float, float, bool, bool]:
    """Seeds and length at the end, whether the truth is inside then, and at every look."""
    end: tuple[float, float, bool] | None = None
    always, last = True, (float(_MOST_SEEDS), math.nan, True)
    for seeds in range(_BLOCK, _MOST_SEEDS + 1, _BLOCK):
        ends = interval(tuple(np.sort(row[:seeds]).tolist()))
        if ends is None:
            continue
        held = ends[0] - _POINT <= truth <= ends[1] + _POINT
        always = always and held
        last = (float(seeds), ends[1] - ends[0], held)
        if end is None and last[1] <= width:
            end = last
    seeds_at, length, held = end or last
    return seeds_at, 0.0 if math.isnan(length) else length, held, always


def _median(law: Law) -> float:
    if law.density is None:
        order = np.argsort(law.values)
        below = np.cumsum(np.asarray(law.chances)[order])
        return float(np.asarray(law.values)[order][np.searchsorted(below, 0.5)])
    return float(np.median(law.draw(law.rng(8), (1, 1_000_000))))


def _length_of_dirichlet(shares: Array, rng: np.random.Generator) -> float:
    """Gaffke (2005), Learned-Miller and Thomas (2019): quantiles of a mean with random weights.

    The weights are a flat Dirichlet's of all values and one more at the bound. That it holds for
    every distribution is a conjecture.
    """
    drawn = rng.exponential(size=(_RESAMPLES, len(shares) + 1))
    weights = drawn[:, 1:] / drawn.sum(axis=1, keepdims=True)
    low = np.quantile(weights @ shares, 0.025)
    high = 1 - np.quantile(weights @ (1 - shares), 0.025)
    return float(high - low)


def _length_of_predictable(shares: Array, rng: np.random.Generator) -> float:
    """Waudby-Smith and Ramdas (2024), the hedged capital with predictable bets, of a fixed n.

    What the package confseq gives as betting_ci; it depends on the order of the values.
    """
    n = len(shares)
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(shares)) / (counts + 1)
    variances = (0.25 + np.cumsum((shares - means) ** 2)) / (counts + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.sqrt(2 * math.log(2 / 0.05) / (n * before))

    def lower(values: Array) -> float:
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            stakes = np.minimum(bets, 0.5 / middle)
            if np.log1p(stakes * (values - middle)).sum() >= math.log(2 / 0.05):
                low = middle
            else:
                high = middle
        return low

    return 1 - lower(1 - shares) - lower(shares)


def _length_of_bernstein(shares: Array, rng: np.random.Generator) -> float:
    """Maurer and Pontil (2009), clipped to the bounds."""
    n, error = len(shares), math.log(4 / 0.05)
    half = math.sqrt(2 * shares.var(ddof=1) * error / n) + 7 * error / (3 * (n - 1))
    mean = float(shares.mean())
    return min(mean + half, 1.0) - max(mean - half, 0.0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage",
        description="Coverage and length of the intervals that are printed.",
    )
    add = parser.add_argument
    add("--repeats", type=int, default=500, help="samples of a cell (default: %(default)s)")
    add("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    add("--law", default="", help="only laws whose name holds this text")
    add("--others", action="store_true", help="lengths of intervals that are not used, too")
    options = parser.parse_args()
    if min(options.repeats, options.jobs) < 1:
        parser.error("--repeats and --jobs must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
