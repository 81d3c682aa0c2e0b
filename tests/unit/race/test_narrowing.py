"""Confirming until an interval is narrow: how many seeds a block has, and what follows from it."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from coordinator.intervals import mean_interval
from coordinator.race.narrowing import Narrowing, narrowest, seeds_for
from tests.support.studyfiles import assert_refused, in_table, refusal
from trialfleet.cli.check import study_report
from trialfleet.study.file import parse
from trialfleet.study.final import Final, UntilNarrow
from trialfleet.study.returns import Returns
from trialfleet.study.spec import Spec

CARTPOLE = Returns(low=0, high=500)
RNG = np.random.default_rng(5)


def narrowing(width: float = 40, most: int = 60, returns: Returns | None = CARTPOLE) -> Narrowing:
    return Narrowing(width=width, most=most, returns=returns)


def until(width: float, most: int) -> Final:
    return Final(confirm=UntilNarrow(width=width, most=most))


@pytest.mark.parametrize(
    ("most", "agents", "blocks"),
    [
        (60, 4, [12, 20, 32, 48, 60]),
        (60, 2, [8, 12, 18, 28, 42, 60]),
        (1_000, 4, [16, 24, 36, 56, 84, 128, 192, 288, 432, 648, 972, 1_000]),
        (100, 1, [4, 6, 9, 14, 21, 32, 48, 72, 100]),
        (60, 32, [32, 60]),
        (60, 64, [60]),
        (1, 4, [1]),
        (5, 4, [4, 5]),
    ],
)
def test_a_first_block_for_a_few_workers_and_then_half_as_many_again(
    most: int, agents: int, blocks: list[int]
) -> None:
    final = until(1, most)
    assert final.confirmation_blocks(agents) == blocks
    assert [final.next_confirming(agents, done) for done in (0, *blocks[:-1])] == blocks
    # Whole trials, and at most a third of them (and one more) in vain.
    assert all(end % agents == 0 for end in blocks[:-1])
    assert all(after - before <= before / 2 + agents for before, after in pairwise(blocks))


def test_a_fixed_number_is_one_block() -> None:
    assert Final(confirm=30).confirmation_blocks(4) == [30]
    assert Final(confirm=0).confirmation_blocks(4) == []
    assert Final(confirm=30).until is None


def test_it_goes_on_while_the_interval_is_wide_and_seeds_are_left() -> None:
    scores = [500.0] * 60
    given = narrowing(width=50)
    assert given.decide(scores[:12])[0] == "confirming"
    assert given.decide(scores[:38])[0] == "confirming"
    assert given.decide(scores[:40])[0] == "confirmed"
    assert narrowing(width=20).decide(scores)[0] == "spent"
    interval = mean_interval(scores[:40], CARTPOLE, sequential=True)
    assert interval is not None
    assert interval.width <= 50


def test_the_width_itself_is_narrow_enough() -> None:
    interval = mean_interval([500.0] * 20, CARTPOLE, sequential=True)
    assert interval is not None
    assert narrowing(width=interval.width).decide([500.0] * 20)[0] == "confirmed"
    assert narrowing(width=0.999 * interval.width).decide([500.0] * 20)[0] == "confirming"


def test_the_interval_allows_for_having_been_looked_at_before() -> None:
    # Student's interval of a fixed number is narrow after the first ten, the sequence's is not.
    scores = [*RNG.normal(100, 10, 10)]
    fixed = mean_interval(scores, None)
    sequence = mean_interval(scores, None, sequential=True)
    assert fixed is not None
    assert sequence is not None
    assert fixed.width < 18 < sequence.width
    assert narrowing(width=18, returns=None).decide(scores)[0] == "confirming"


def test_equal_scores_without_bounds_say_nothing() -> None:
    verdict, why = narrowing(returns=None).decide([7.0] * 12)
    assert (verdict, why) == ("confirming", "12 seeds have no interval yet")
    assert narrowing(returns=None, most=12).decide([7.0] * 12)[0] == "spent"


def test_the_narrowest_is_that_of_equal_scores() -> None:
    least = narrowest(narrowing())
    assert least is not None
    for scores in ([500.0] * 60, [0.0] * 60, [123.0] * 60, [500.0] * 59 + [499.0]):
        interval = mean_interval(scores, CARTPOLE, sequential=True)
        assert interval is not None
        assert interval.width >= 0.999999 * least
    assert narrowest(narrowing(returns=None)) is None


@pytest.mark.parametrize("width", [400.0, 40.0, 10.0, 1.0])
def test_so_many_seeds_are_the_least_for_a_width(width: float) -> None:
    count = seeds_for(narrowing(width=width))
    assert narrowing(width=width, most=10**6).decide([500.0] * count)[0] == "confirmed"
    assert narrowing(width=width, most=10**6).decide([500.0] * (count - 1))[0] == "confirming"


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("confirm = { width = 10 }", "final.confirm.most", ["is missing", "whole number from 1"]),
        ("confirm = { most = 60 }", "final.confirm.width", ["is missing; must be a number above"]),
        ("confirm = { width = 0, most = 9 }", "final.confirm.width", ["0; must be a number above"]),
        ("confirm = { width = 9, most = 0 }", "final.confirm.most", ["0; must be a whole number"]),
        ("confirm = { width = 9, most = 9.0 }", "final.confirm.most", ["9.0; must be a whole"]),
        ("confirm = { widht = 9, most = 9 }", "final.confirm.widht", ["unknown key", "width"]),
        ("confirm = 1_001", "final.confirm", ["1001;", "from 0 to 1000, or { width = …, most"]),
        ("confirm = true", "final.confirm", ["true;", "from 0 to 1000, or { width = …, most"]),
        (
            "race = false\nconfirm = { width = 9, most = 9 }",
            "final.confirm",
            ["this study has no race", "must be a number or left out"],
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(line: str, field: str, words: list[str]) -> None:
    assert_refused("final", line, field, words)


def test_a_study_without_a_race_has_nobody_to_confirm() -> None:
    table = "confirm = { width = 9, most = 9 }\n[search]\nover_seeds = 'median'"
    assert refusal(in_table("final", table)).startswith("final.confirm: confirms the winner of a")


def test_it_is_stored_as_it_is_given_and_read_again() -> None:
    spec = parse(in_table("final", "confirm = { width = 10, most = 60 }"), source="x")
    assert json.loads(spec.to_json())["final"]["confirm"] == {"most": 60, "width": 10.0}
    assert Spec.from_json(spec.to_json()) == spec
    assert json.loads(parse('name = "x"', source="x").to_json())["final"]["confirm"] == 30


def checked(lines: str) -> str:
    console = Console(width=400)
    with console.capture() as told:
        console.print(study_report(parse(lines, source="x"), None))
    return told.get()


def test_check_says_when_a_width_is_out_of_reach() -> None:
    told = checked(in_table("final", "confirm = { width = 10, most = 60 }"))
    assert "then the winner × fresh seeds until its 95% interval is 10 wide, 60 at most" in told
    says = "with returns from 0 to 500 the interval of 60 seeds is 32.7 wide even if every seed"
    assert f"warning: final.confirm: {says} scores the same, so 10 is out of reach" in told
    assert f"{seeds_for(narrowing(width=10))} seeds are the least for it" in told


def test_check_is_silent_where_it_can_be_reached() -> None:
    assert "warning" not in checked(in_table("final", "confirm = { width = 33, most = 60 }"))
    assert "warning" not in checked('name = "x"')
    # Without bounds it depends on how much the seeds scatter.
    unbounded = "[task]\nenv = 'LunarLander-v3'\n[final]\nconfirm = { width = 1, most = 60 }"
    assert "warning" not in checked(f'name = "x"\n{unbounded}')
    few = unbounded.replace("60", "4")
    assert "an interval of 5 seeds or more, and most is 4" in checked(f'name = "x"\n{few}')


def test_check_counts_the_most_that_is_trained() -> None:
    lines = "[task]\nseeds = 4\ntrain_steps = 1000\neval_every = 1000\n[agent]\n"
    lines += "learning_starts = 100\n[search]\ntrials = 8\n[final]\ntop = 1\nseeds = 4\n"
    told = checked(f'name = "x"\n{lines}confirm = {{ width = 100, most = 50 }}\n')
    assert "and 54,000 in the final stage at most" in told
