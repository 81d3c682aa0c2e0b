from __future__ import annotations

import numpy as np
import pytest

from trialfleet.seeds import (
    confirmation_seeds,
    fresh_seeds,
    narrowed,
    race_seeds,
    sampler_seed,
    search_seeds,
    shared_seed,
)

LOW_BITS = 0xFFFF_FFFF


def test_seeds_are_those_of_every_finished_study() -> None:
    # Golden: were one to change, no finished study could be replayed.
    assert search_seeds(69, 0, 4) == [
        2392243606990735824,
        8073869775351240730,
        5114499360653886924,
        3266261608728403168,
    ]
    assert search_seeds(69, 1, 2) == [4649462396636180724, 8056649522726056402]
    assert fresh_seeds(69, 0, 3) == [
        1779948295209743997,
        3272913546094724189,
        1739138267541200689,
    ]
    assert fresh_seeds(69, 2, 2) == [2115326879920107323, 5960189706978974169]
    assert [sampler_seed(69, 0), sampler_seed(69, 1)] == [1967435200, 3018328578]
    assert shared_seed(69) == 3028472590


@pytest.mark.parametrize("study_seed", [0, 1, 2**32 - 1])
def test_search_and_fresh_seeds_never_meet(study_seed: int) -> None:
    search = [seed for trial in range(200) for seed in search_seeds(study_seed, trial, 8)]
    fresh = [seed for rank in range(20) for seed in fresh_seeds(study_seed, rank, 8)]
    assert {seed % 2 for seed in search} == {0}
    assert {seed % 2 for seed in fresh} == {1}
    assert all(0 <= seed < 2**63 for seed in search + fresh)


def test_seeds_differ_in_the_bits_that_every_generator_reads() -> None:
    finalists = [fresh_seeds(5, rank, 256) for rank in range(40)]
    low = {seed & LOW_BITS for seeds in finalists for seed in seeds}
    assert len(low) == 40 * 256
    assert len({seed & LOW_BITS for seed in search_seeds(5, 0, 256)}) == 256


def test_a_collision_draws_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # In 2**31 seeds none collides by chance; in 2**6 nearly all do.
    monkeypatch.setattr("trialfleet.seeds._LOW_BITS", 0x7F)
    finalists = [fresh_seeds(5, rank, 8) for rank in range(6)]
    assert len({seed & 0x7F for seeds in finalists for seed in seeds}) == 48
    assert finalists == [fresh_seeds(5, rank, 8) for rank in range(6)]
    assert len({seed & 0x7F for seed in search_seeds(5, 0, 60)}) == 60


def test_more_seeds_begin_with_fewer() -> None:
    assert search_seeds(3, 4, 100)[:7] == search_seeds(3, 4, 7)
    assert fresh_seeds(3, 0, 100)[:7] == fresh_seeds(3, 0, 7)


def test_every_seed_depends_on_study_and_number() -> None:
    trials = {
        seed for study in range(10) for trial in range(50) for seed in search_seeds(study, trial, 1)
    }
    samplers = {sampler_seed(study, trial) for study in range(10) for trial in range(50)}
    assert len(trials) == 500
    assert len(samplers) == 500
    assert all(0 <= seed < 2**32 for seed in samplers | {shared_seed(9)})
    assert len({shared_seed(study) for study in range(50)}) == 50


@pytest.mark.parametrize("study_seed", [0, 69, 2**32 - 1])
def test_search_race_and_confirmation_share_no_seed_in_any_bits_that_are_read(
    study_seed: int,
) -> None:
    search = [seed for trial in range(200) for seed in search_seeds(study_seed, trial, 8)]
    race = [seed for rank in range(12) for seed in race_seeds(study_seed, rank, 40)]
    confirmed = [seed for rank in range(12) for seed in confirmation_seeds(study_seed, rank, 30)]
    assert {seed % 2 for seed in search} == {0}
    assert {seed % 4 for seed in race} == {1}
    assert {seed % 4 for seed in confirmed} == {3}
    for seeds in (race, confirmed):
        assert len({seed & LOW_BITS for seed in seeds}) == len(seeds)
        assert all(0 <= seed < 2**63 for seed in seeds)


def test_race_seeds_collide_no_more_than_fresh_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialfleet.seeds._LOW_BITS", 0xFF)
    for seeds_of in (race_seeds, confirmation_seeds):
        seeds = [seed & 0xFF for rank in range(6) for seed in seeds_of(5, rank, 8)]
        assert len(set(seeds)) == 48


def test_race_and_confirmation_seeds_are_those_of_every_finished_study() -> None:
    # Golden, as those above.
    assert race_seeds(69, 0, 2) == [2200043127769085605, 8388904983877529841]
    assert confirmation_seeds(69, 1, 2) == [7910312742371630227, 5686014748345780383]


def test_seeds_of_32_bits_are_as_distinct_as_those_of_63() -> None:
    """NumPy's RandomState and scikit-learn take no more."""
    sets = [
        *(search_seeds(5, trial, 8) for trial in range(20)),
        *(race_seeds(5, rank, 40) for rank in range(12)),
        *(confirmation_seeds(5, rank, 30) for rank in range(12)),
    ]
    narrow = [seed for seeds in sets for seed in narrowed(seeds)]
    assert len(set(narrow)) == len(narrow)
    for seed in narrow:
        np.random.RandomState(seed)
    assert [seed & 3 for seed in narrow] == [seed & 3 for seeds in sets for seed in seeds]
