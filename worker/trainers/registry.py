"""The trainers of the algorithms that `trialfleet.search.algorithms` lists."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from trialfleet.search.algorithms import ALGORITHMS
from worker.trainers.protocol import Algorithm


def algorithm(name: str) -> Algorithm:
    """The algorithm's module `trainer`, which is loaded now and not before.

    Raises:
        ValueError: No algorithm has this name.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}, only {', '.join(ALGORITHMS)}")
    return cast(Algorithm, import_module(f"{ALGORITHMS[name]}.trainer"))
