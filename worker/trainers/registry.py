"""The trainers of the algorithms that `trialfleet.search.algorithms` lists."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from trialfleet.search.algorithms import ALGORITHMS
from worker.trainers.protocol import Algorithm, SavedAgents


def algorithm(name: str) -> Algorithm:
    """The algorithm's module `trainer`, which is loaded now and not before.

    Raises:
        ValueError: No algorithm has this name.
    """
    return cast(Algorithm, _module(name, "trainer"))


def saved_agents(name: str) -> SavedAgents:
    """The algorithm's module `saved`.

    Raises:
        ValueError: No algorithm has this name.
    """
    return cast(SavedAgents, _module(name, "saved"))


def compiled_arithmetic() -> str:
    """How machine code of ours rounds in this process; compiles, or loads, what it computes with.

    Raises:
        ImportError: Numba is not installed.
    """
    # The DQN is the only one that compiles any.
    module = import_module(f"{ALGORITHMS['dqn']}.compiled.arithmetic")
    return str(module.describe())


def _module(name: str, what: str) -> object:
    if name not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}, only {', '.join(ALGORITHMS)}")
    return import_module(f"{ALGORITHMS[name]}.{what}")
