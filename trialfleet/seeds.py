"""Every seed of a study, derived from the study's own.

A trial's draws depend on the study file and the trial's number alone, so any worker on any machine
repeats them. numpy keeps `SeedSequence` stable across versions and platforms:
https://numpy.org/doc/stable/reference/random/bit_generators/generated/numpy.random.SeedSequence.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count as count_from

import numpy as np

# The first number of each spawn key. Changing one changes every result: never do it.
_SEARCH, _FRESH, _SAMPLER, _SHARED, _AUDIT, _RACE, _CONFIRMATION = range(7)

# PyTorch's CPU generator uses only the low 32 bits of a seed, so seeds must differ in those.
_LOW_BITS = 0xFFFF_FFFF


def search_seeds(study_seed: int, trial_number: int, count: int) -> list[int]:
    """The seeds of a trial's agents: `count` different ones, 0 <= seed < 2**63, all even.

    Fresh seeds are odd, so no agent of the final stage repeats one that chose its configuration.
    """
    seeds = _distinct(_draws(study_seed, _SEARCH, trial_number), count, taken=set())
    return [seed & ~1 for seed in seeds]


def fresh_seeds(study_seed: int, finalist_rank: int, count: int) -> list[int]:
    """The seeds of a finalist's agents: 0 <= seed < 2**63, all odd, no two finalists share one.

    `finalist_rank` is 0 for the best configuration of the search. All finalists of a study take the
    same `count`.
    """
    return [seed | 1 for seed in _of_finalist(study_seed, _FRESH, finalist_rank, count)]


def race_seeds(study_seed: int, finalist: int, count: int) -> list[int]:
    """The seeds of a finalist in the race: 0 <= seed < 2**63, no two finalists share one.

    The lowest two bits of every seed in them say what it is for: 1 for the race, 3 for the
    confirmation, and search seeds are even. So none has two purposes.
    """
    return [seed & ~3 | 1 for seed in _of_finalist(study_seed, _RACE, finalist, count)]


def confirmation_seeds(study_seed: int, finalist: int, count: int) -> list[int]:
    """The seeds on which a finalist is confirmed that has won, as `race_seeds` has them."""
    return [seed | 3 for seed in _of_finalist(study_seed, _CONFIRMATION, finalist, count)]


def narrowed(seeds: Sequence[int]) -> list[int]:
    """The seeds in the 32 bits in which they differ, for code that takes no more.

    NumPy's `RandomState`, scikit-learn and others refuse a larger one. What a seed is for stands in
    its lowest bits, so no two purposes share one of these either.
    """
    return [seed & _LOW_BITS for seed in seeds]


def sampler_seed(study_seed: int, trial_number: int) -> int:
    """The sampler's seed for one trial, 0 <= seed < 2**32.

    Samplers that share a seed would suggest the same points.
    """
    return _draw32(study_seed, _SAMPLER, trial_number)


def shared_seed(study_seed: int) -> int:
    """One seed for all workers' samplers, 0 <= seed < 2**32: they draw from one sequence."""
    return _draw32(study_seed, _SHARED)


def audited(study_seed: int, trial_number: int, share: float) -> bool:
    """Whether the trial, if it is pruned, is one of the `share` that is trained to its end."""
    return _draw32(study_seed, _AUDIT, trial_number) < share * 2**32


def _draws(study_seed: int, *key: int) -> Iterator[int]:
    """An endless sequence of 63-bit numbers, the same for the same key."""
    sequence = np.random.SeedSequence(entropy=study_seed, spawn_key=key)
    # A longer state starts with the shorter one, so each doubling adds numbers.
    done = 0
    for doubling in count_from(5):
        state = sequence.generate_state(2**doubling, np.uint64)
        yield from (int(number) >> 1 for number in state[done:])
        done = len(state)


def _of_finalist(study_seed: int, purpose: int, finalist: int, count: int) -> list[int]:
    """Draws for one finalist that differ from those of all others with as many."""
    taken: set[int] = set()
    bits = 1 if purpose == _FRESH else 2
    # A finalist's seeds must avoid those of the ones before it: draw these first.
    for earlier in range(finalist):
        _distinct(_draws(study_seed, purpose, earlier), count, taken=taken, bits=bits)
    return _distinct(_draws(study_seed, purpose, finalist), count, taken=taken, bits=bits)


def _distinct(draws: Iterator[int], count: int, *, taken: set[int], bits: int = 1) -> list[int]:
    """The first `count` draws that are neither repeated nor taken; they are taken afterwards.

    The lowest `bits` are left out of the comparison: they will tell what a seed is for.
    """
    found: list[int] = []
    while len(found) < count:
        draw = next(draws)
        rest = (draw & _LOW_BITS) >> bits
        if rest not in taken:
            taken.add(rest)
            found.append(draw)
    return found


def _draw32(study_seed: int, *key: int) -> int:
    sequence = np.random.SeedSequence(entropy=study_seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint32)[0])
