"""What is printed as the answer, wherever it is printed."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from coordinator.answer import answer, race_told
from coordinator.certainty import certainty
from coordinator.dashboard.notes import study_note
from coordinator.report.page import render
from tests.support.told import RETURNS, told
from trialfleet.cli.agent.card import Played, model_card
from trialfleet.cli.show.outcome import result_report
from trialfleet.escape import markdown
from trialfleet.store.studies import Study

SOLVED = (
    "9 of 10 seeds solve it (mean return of 390 or more): at least 60.5% of all seeds do"
    " (exact, 95%)"
)


def study(*, race: bool = True) -> Study:
    found = told(race=race).study
    assert found.result is not None
    found.result["model"] |= {"task": {"env": "CartPole-v1"}}
    return found


def printed(told_of: Study) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(result_report(told_of))
    return captured.get()


def race_mean(told_of: Study) -> str:
    assert told_of.result is not None
    (won,) = (r for r in told_of.result["finalists"] if r["rank"] == told_of.result["winner"])
    return f"{won['mean']:.1f}"


def test_after_a_race_it_is_the_confirmation() -> None:
    raced, fixed = study(), study(race=False)
    assert raced.result is not None
    assert fixed.result is not None
    found = answer(raced.result)
    assert (found.mean, found.iqm, found.confirmed) == (370.0, 400.0, True)
    assert found.solved_told == SOLVED
    before = answer(fixed.result)
    assert (f"{before.mean:.1f}", before.confirmed) == (race_mean(fixed), False)
    assert before.solved_told == ""


def test_a_bound_for_seeds_that_the_scores_decided_the_number_of_is_not_called_exact() -> None:
    result = study().result
    assert result is not None
    solved = {**result["confirmation"]["solved"], "sequential": True}
    blocks = {**result, "confirmation": {**result["confirmation"], "solved": solved}}
    assert answer(blocks).solved_told == SOLVED.replace("exact, ", "")


def test_the_terminal_shows_no_mean_of_the_race() -> None:
    shown = printed(study())
    assert "mean 370.0 over 10 confirmation seeds × 20 episodes" in shown
    assert "× 20 episodes; interquartile mean 400.0\n95% interval " in shown
    assert f"\n{SOLVED}" in shown
    assert race_mean(study()) not in shown


def test_without_a_confirmation_it_says_that_the_mean_is_optimistic() -> None:
    raced = study()
    assert raced.result is not None
    shown = printed(replace(raced, result={**raced.result, "confirmation": None}))
    assert f"mean {race_mean(raced)} over 6 fresh seeds" in shown
    assert "it was chosen by this mean, which is a little optimistic for that" in shown


def test_equivalent_finalists_are_named() -> None:
    raced = study()
    assert raced.result is not None
    rows = raced.result["finalists"]
    others = [row["rank"] for row in rows if row["rank"] != raced.result["winner"]]
    race = {**raced.result["race"], "equivalent": others}
    lines = race_told({**raced.result, "race": race})
    trials = ", ".join(str(row["trial"]) for row in rows if row["rank"] in others)
    assert f"trials {trials} are equivalent" in lines[-1]


def test_model_card_and_note_say_the_same() -> None:
    sure = certainty([399.0] * 20, RETURNS)
    played = Played(episodes=20, mean=399.0, deviation=1.0, certainty=sure)
    found = answer(study().result or {})
    card = model_card(study(), played, files=set())
    assert "| its configuration, 10 confirmation seeds | 370.0 |" in card
    assert f"{SOLVED}." in card
    assert "race on up to 12 fresh seeds" in card
    assert race_mean(study()) not in card
    assert "whatever the distribution of returns between 0 and 500" in card
    note = study_note(study(), artifacts={})
    assert "with a mean of 370.0 over 10 confirmation seeds" in note
    assert markdown(found.interval_told) in note
    assert found.interval_told in printed(study())


def test_whether_the_interval_became_narrow_is_said_everywhere() -> None:
    asked = study()
    assert asked.result is not None
    until = {"width": 30.0, "most": 60, "reached": True}
    confirmation = {**asked.result["confirmation"], "until": until}
    narrow = replace(asked, result={**asked.result, "confirmation": confirmation})
    says = "ts interval is at most 30 wide after 10 of 60 seeds"
    sure = certainty([399.0] * 20, RETURNS)
    played = Played(episodes=20, mean=399.0, deviation=1.0, certainty=sure)
    page = render.page(replace(told(race=True), study=narrow))
    for shown in (
        printed(narrow),
        study_note(narrow, artifacts={}),
        model_card(narrow, played, files=set()),
        page,
    ):
        assert says in shown
    spent = {**confirmation, "until": {**until, "reached": False}}
    found = answer({**asked.result, "confirmation": spent})
    assert (
        found.until_told == "its interval was to be at most 30 wide, and is not after all 60 seeds"
    )
    assert answer(asked.result).until_told == ""
