"""What is done to a running study, and when: a seeded list of faults, spread over its progress."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["kill", "stall", "coordinator", "fast", "immediate"]

# What each kind does, in the order in which a table lists them.
KINDS: dict[Kind, str] = {
    "kill": "worker kill -9",
    "stall": "worker SIGSTOP past its lease, SIGCONT",
    "coordinator": "coordinator kill -9",
    "fast": "PostgreSQL restart, fast",
    "immediate": "PostgreSQL restart, immediate",
}
# Of the kills: most hit workers, as most of a fleet's processes are workers.
_STALLS, _COORDINATORS = 0.10, 0.05
_RESTARTS: tuple[Kind, Kind] = ("immediate", "fast")  # by turns
# The last fault is due while some trials are still to do.
_END = 0.98


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is done to the study."""

    at: float  # due once this share of the budget counts
    kind: Kind
    draw: float  # in [0, 1): picks the victim among the workers that are up


def make_schedule(*, kills: int, restarts: int, seed: int) -> list[Fault]:
    """The faults in the order in which they are due; the same ones for the same arguments.

    Args:
        kills: Of processes. One in ten is a stall and one in twenty hits the coordinator, at least
            one of each as soon as there are four.
        restarts: Of PostgreSQL, by turns immediate (a crash) and fast.
        seed: Of every draw.
    """
    draw = random.Random(seed)
    least = 1 if kills >= 4 else 0
    stalls, coordinators = (max(round(part * kills), least) for part in (_STALLS, _COORDINATORS))
    kinds: list[Kind] = ["kill" for _ in range(kills)]
    kinds[:stalls] = ["stall" for _ in range(stalls)]
    kinds[stalls : stalls + coordinators] = ["coordinator" for _ in range(coordinators)]
    draw.shuffle(kinds)
    ways: list[Kind] = [_RESTARTS[number % 2] for number in range(restarts)]
    faults = [
        Fault(at=at, kind=kind, draw=draw.random())
        for each in (kinds, ways)
        for at, kind in zip(_instants(len(each), draw), each, strict=True)
    ]
    return sorted(faults, key=lambda fault: fault.at)


def _instants(count: int, draw: random.Random) -> list[float]:
    """One instant in each of `count` equal parts of the study's progress."""
    return [_END * (part + draw.random()) / count for part in range(count)]


class HasKind(Protocol):
    """A fault, planned or carried out."""

    @property
    def kind(self) -> Kind:
        """What was done."""


def by_kind(faults: Sequence[HasKind]) -> Counter[Kind]:
    """How many of each kind there are."""
    return Counter(fault.kind for fault in faults)
