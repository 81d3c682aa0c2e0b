"""Every seed of a study, derived from the study's own.

A trial's draws depend on the study file and the trial's number alone, so any worker on any machine
repeats them. numpy keeps `SeedSequence` stable across versions and platforms:
https://numpy.org/doc/stable/reference/random/bit_generators/generated/numpy.random.SeedSequence.html
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as count_from

import numpy as np

# The first word of each spawn key. A finished study's numbers hang on them: never change one.
_SEARCH, _FRESH, _SAMPLER, _SHARED = range(4)

# PyTorch's CPU generator looks at the low 32 bits of a seed alone: seeds differ in those.
_LOW_BITS = 0xFFFF_FFFF


def search_seeds(study_seed: int, trial_number: int, count: int) -> list[int]:
    """The seeds of a trial's agents: `count` different ones, 0 <= seed < 2**63, all even.

    Fresh seeds are odd: no agent of the final stage can repeat a draw that its configuration was
    chosen by.
    """
    seeds = _distinct(_words(study_seed, _SEARCH, trial_number), count, taken=set())
    return [seed & ~1 for seed in seeds]


def fresh_seeds(study_seed: int, finalist_rank: int, count: int) -> list[int]:
    """The seeds of a finalist's agents: 0 <= seed < 2**63, all odd, no two finalists share one.

    `finalist_rank` is 0 for the best configuration of the search. All finalists of a study take the
    same `count`.
    """
    taken: set[int] = set()
    # A rank's seeds must avoid those of the ranks before it: draw these first.
    for rank in range(finalist_rank):
        _distinct(_words(study_seed, _FRESH, rank), count, taken=taken)
    seeds = _distinct(_words(study_seed, _FRESH, finalist_rank), count, taken=taken)
    return [seed | 1 for seed in seeds]


def sampler_seed(study_seed: int, trial_number: int) -> int:
    """The sampler's seed for one trial, 0 <= seed < 2**32.

    Its own, because workers whose samplers share a seed suggest the same points.
    """
    return _word32(study_seed, _SAMPLER, trial_number)


def shared_seed(study_seed: int) -> int:
    """One seed for all workers' samplers, 0 <= seed < 2**32: they draw from one sequence."""
    return _word32(study_seed, _SHARED)


def _words(study_seed: int, *key: int) -> Iterator[int]:
    """63-bit numbers without end, the same ones for the same key."""
    sequence = np.random.SeedSequence(entropy=study_seed, spawn_key=key)
    # A longer state starts with the shorter one, so doubling it only adds.
    done = 0
    for doubling in count_from(5):
        state = sequence.generate_state(2**doubling, np.uint64)
        yield from (int(word) >> 1 for word in state[done:])
        done = len(state)


def _distinct(words: Iterator[int], count: int, *, taken: set[int]) -> list[int]:
    """The first `count` words that differ from each other and from those taken, which they join."""
    found: list[int] = []
    while len(found) < count:
        word = next(words)
        # The lowest bit is not the word's own: it becomes search's or fresh's mark.
        mark = (word & _LOW_BITS) >> 1
        if mark not in taken:
            taken.add(mark)
            found.append(word)
    return found


def _word32(study_seed: int, *key: int) -> int:
    sequence = np.random.SeedSequence(entropy=study_seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint32)[0])
