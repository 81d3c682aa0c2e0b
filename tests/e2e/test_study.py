"""A study of eight workers, some of which are killed: nothing is lost, nothing counted twice."""

from __future__ import annotations

import json

from tests.e2e.compose import check_in_container
from tests.e2e.story import LOST, RELEASED, Story


def test_up_ends_with_the_study_and_tells_the_result(story: Story) -> None:
    assert story.exit_code == 0, story.output[-5000:]
    assert "study done" in story.output
    assert "saved: /models/small.safetensors and /models/small.json" in story.output
    print(f"up to the first claim: {story.first_claim:.1f} s")


def test_the_budget_is_exact_and_every_invariant_holds(story: Story) -> None:
    rows = story.project.sql(
        "SELECT s.budget, (SELECT count(*) FROM public.trials t WHERE t.study_id = s.search_id"
        " AND t.state IN ('COMPLETE', 'PRUNED')) FROM fleet.studies s"
    )
    assert rows == [["40", "40"]]
    check_in_container(story.project)


def test_the_trials_of_killed_workers_were_lost_and_those_of_stopped_workers_given_back(
    story: Story,
) -> None:
    assert story.killed >= 2
    assert story.project.scalar(LOST) >= story.killed
    # Scaling down is a stop: a trial at hand is given back before the container's grace period
    # ends. Some of the six may have been between two trials.
    assert 1 <= story.released <= story.project.scalar(RELEASED)
    assert story.project.sql("SELECT count(*) FROM public.trials WHERE state = 'FAIL'") == [["0"]]


def test_the_saved_agent_is_the_winner(story: Story) -> None:
    story.project.compose("cp", "coordinator:/models/small.json", str(story.project.folder))
    story.project.compose("cp", "coordinator:/models/small.safetensors", str(story.project.folder))
    manifest = json.loads((story.project.folder / "small.json").read_text(encoding="utf-8"))
    [[result]] = story.project.sql("SELECT result->'model' FROM fleet.studies")
    assert manifest["sha256"] == json.loads(result)["sha256"]
    assert (story.project.folder / "small.safetensors").stat().st_size == json.loads(result)["size"]


def test_up_on_a_finished_study_says_so_and_ends(story: Story) -> None:
    trials = story.project.sql("SELECT count(*) FROM public.trials")
    again = story.project.start("up", "--scale", "worker=2")
    assert again.wait() == 0, again.stderr
    said = again.stdout + again.stderr
    assert "study 'small' has ended before; nothing is left to do" in said
    assert said.count("study ended") == 2  # what each worker says as it goes
    assert story.project.sql("SELECT count(*) FROM public.trials") == trials
