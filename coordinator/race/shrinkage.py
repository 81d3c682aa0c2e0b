"""How good a configuration is likely to be, given that its score is one of many.

A search's best score was the luckiest of a hundred, and more so the fewer seeds it is the mean of
and the more these differ. The means are therefore shrunken towards the study's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trialfleet.study.values import mean

# A trial is hopeless one of whose seeds is further below the best trial than this many times the
# middle half of all seeds is wide, and than this many times the best trial's own mean.
_WIDTHS, _MEANS = 20, 10
# Above this, a double has no digits left for what trials differ by.
_LARGEST = 1e15


def shrunken(scores: Sequence[Sequence[float]]) -> list[float]:
    """The mean score of each trial, shrunken towards the study's by the variance of its seeds.

    The parametric empirical Bayes estimator of normal means (Morris 1983, "Parametric Empirical
    Bayes Inference", Journal of the American Statistical Association 78, section 1; James and
    Stein 1961 for unequal variances): trial t's true mean is taken to be drawn from N(mu, tau²),
    its measured mean m_t from N(true mean, v_t), and the estimate is
    mu + tau² / (tau² + v_t) · (m_t - mu). tau² is found by moments, mu is the mean weighted by
    1 / (tau² + v_t).

    v_t is of a few seeds, and 0 where all came to a capped score. So it is moderated (Smyth 2004,
    "Linear models and empirical Bayes methods", Statistical Applications in Genetics and Molecular
    Biology 3, eq. 3.2, with as many prior degrees of freedom as a trial has): half its own
    variance, half the mean variance of the study's trials.

    Variances are no use where a seed has diverged, or has a stand-in for that, such as -1e9: one
    would make all others look alike. Such a trial is hopeless as it is, so it keeps its own mean,
    and the others are judged as if it was not there.

    Args:
        scores: Of each trial, its agents' scores [S].

    Returns:
        An estimate for each trial; the means themselves where no trial has two seeds, and where
        scores are so large that nothing else can be told apart.
    """
    means = np.array([mean(each) for each in scores])  # [T]
    estimates = means.copy()
    hopeful = _hopeful(scores, means)
    rest = [each for each, hope in zip(scores, hopeful, strict=True) if hope]
    if rest and max(abs(score) for each in rest for score in each) < _LARGEST:
        estimates[hopeful] = _shrunken(rest, means[hopeful])
    return [float(each) for each in estimates]


def _hopeful(scores: Sequence[Sequence[float]], means: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which trials have a chance to be the best; all of them in a search like any other."""
    if not scores:
        return np.ones(0, dtype=bool)
    every = np.concatenate([np.asarray(each, dtype=float) for each in scores])
    # Of values that are there: between two extreme ones, there would be an overflow.
    low, high = np.quantile(every, [0.25, 0.75], method="nearest")
    with np.errstate(over="ignore"):
        best = float(means.max())
        reach = max(_WIDTHS * float(high - low), _MEANS * abs(best), 1.0)
        return np.array([min(each) >= best - reach for each in scores])


def _shrunken(scores: Sequence[Sequence[float]], means: NDArray[np.float64]) -> list[float]:
    """The estimates of trials whose scores can be compared."""
    sizes = np.array([len(each) for each in scores])  # [T]
    repeated = sizes > 1
    if len(means) < 3 or not repeated.any():
        return [float(mean) for mean in means]
    own = np.array([np.var(each, ddof=1) if len(each) > 1 else 0.0 for each in scores])
    pooled = float(own[repeated].mean())
    variances = np.where(repeated, (own + pooled) / 2, pooled) / sizes  # of the means, [T]
    tau2 = max(0.0, float(np.var(means, ddof=1) - variances.mean()))
    total = tau2 + variances
    if not total.all():
        return [float(mean) for mean in means]  # no trial's seeds differ: the means are exact
    center = float(np.average(means, weights=1 / total))
    return [float(each) for each in center + tau2 / total * (means - center)]
