"""`trialfleet run` from a study file to a saved agent, and the commands that read what it left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, text

from tests.support.invariants import check_invariants
from tests.support.processes import Commands, Process
from tests.support.server import Server
from tests.support.studies import states, trivial_study
from trialfleet.store import studies
from trialfleet.store.storage import Database

pytestmark = pytest.mark.xdist_group("tiny")  # one study for all of them, where xdist groups

# Some trials are pruned: half of them at their first evaluation.
STUDY = trivial_study(
    name="tiny",
    train_steps=64,
    eval_every=16,
    trials=8,
    sampler='{ name = "tpe", n_startup_trials = 3 }',
    pruner='{ name = "successive_halving", min_resource = 16, reduction_factor = 2 }',
    # Two finalists with a block of two seeds each, then two trials that confirm the winner.
    race=True,
    final_seeds=2,
    confirm=4,
)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A study that `trialfleet run` has brought to its end, and the folder where it did."""

    commands: Commands
    process: Process
    url: URL

    @property
    def folder(self) -> Path:
        return self.commands.folder


@pytest.fixture(scope="module")
def tiny(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with server.fresh_database() as url:
        commands = Commands(tmp_path_factory.mktemp("tiny"), url)
        with closing(commands):
            file = commands.study_file(STUDY)
            # Interpreters are started for it, its workers too, as on a user's machine.
            process = commands.run("run", file, "--workers", "2", cold=True)
            yield Finished(commands=commands, process=process, url=url)


def test_it_ends_with_a_saved_agent(tiny: Finished) -> None:
    manifest = json.loads((tiny.folder / "models" / "tiny.json").read_text())
    assert manifest["study"] == "tiny"
    assert manifest["task"]["env"] == "CartPole-v1"
    assert (tiny.folder / "models" / "tiny.safetensors").stat().st_size == manifest["size"]
    assert sorted(path.name for path in (tiny.folder / "models").iterdir()) == [
        "tiny.json",
        "tiny.safetensors",
    ]
    printed = tiny.process.stdout
    assert "saved: models/tiny.safetensors and models/tiny.json" in printed
    assert "winner: trial" in printed
    # One line for each trial, whatever a worker's log says.
    for number in range(8):
        assert printed.count(f"search trial {number} ") == 1
    for number in range(4):
        assert len(re.findall(rf"final trial {number} \(of trial \d\) COMPLETE", printed)) == 1


def test_every_invariant_holds(tiny: Finished) -> None:
    with closing(Database(tiny.url, application="tests")) as database:
        check_invariants(database, "tiny")
        study = studies.find(database, "tiny")
        outcomes = {state for _, state in states(database, study.search_id)}
        assert outcomes == {"COMPLETE", "PRUNED"}
        with database.transaction() as connection:
            workers = connection.execute(text("SELECT ended_at FROM fleet.workers")).all()
            checkpoints = connection.scalar(text("SELECT count(*) FROM fleet.checkpoints"))
    # Both workers have said goodbye.
    assert len(workers) == 2
    assert all(worker.ended_at is not None for worker in workers)
    assert checkpoints == 0


def test_the_workers_logs_hold_no_complaint(tiny: Finished) -> None:
    logs = sorted((tiny.folder / ".trialfleet" / "logs").iterdir())
    assert [path.name for path in logs] == ["tiny-worker-1.log", "tiny-worker-2.log"]
    for path in logs:
        content = path.read_text()
        assert "worker ready" in content
        assert "study ended" in content
        assert "warning" not in content
        assert "Traceback" not in content


def test_status_tells_where_it_stands(tiny: Finished) -> None:
    (told,) = json.loads(tiny.commands.run("status", "--json").stdout)
    assert (told["study"], told["stage"], told["budget"]) == ("tiny", "done", 8)
    assert told["search"]["counted"] == 8
    assert told["search"]["running"] == told["search"]["waiting"] == 0
    assert told["final"]["complete"] == told["final_trials"] == 4
    assert told["workers"] == []
    assert told["eta"] is None
    assert (told["best"]["trial"], told["best"]["score"] > 0) == (told["best"]["trial"], True)
    shown = tiny.commands.run("status", "tiny")
    assert "8/8" in shown.stdout
    assert shown.stderr == ""


def test_best_tells_what_the_final_stage_found(tiny: Finished) -> None:
    result = json.loads(tiny.commands.run("best", "tiny", "--json").stdout)
    assert result["model"]["seed"] in result["model"]["configuration_seeds"]
    assert len(result["finalists"]) == 2
    assert len(result["confirmation"]["scores"]) == 4
    # The threshold is CartPole's own, as its workers found it.
    assert result["confirmation"]["solved"]["threshold"] == 475.0
    shown = tiny.commands.run("best", "tiny", "--out", "again/and again")
    mean = result["confirmation"]["mean"]
    said = f"winner: trial {result['model']['search_trial']}, mean {mean:.1f} over 4 confirmation"
    assert said in shown.stdout
    assert "0 of 4 seeds solve it" in shown.stdout
    for name in ("tiny.json", "tiny.safetensors"):
        saved = (tiny.folder / "again" / "and again" / name).read_bytes()
        assert saved == (tiny.folder / "models" / name).read_bytes()


def test_evaluate_plays_the_same_episodes_for_the_same_seed(tiny: Finished) -> None:
    def play(*options: str) -> str:
        model = "models/tiny.safetensors"
        return tiny.commands.run("evaluate", model, "--episodes", "20", *options).stdout

    first = play()
    assert "CartPole-v1: mean return" in first
    assert "over 20 episodes" in first
    assert play() == first
    assert play("--seed", "1") != first


@pytest.mark.parametrize("options", [["7"], ["3", "--final"]])
def test_replay_repeats_a_trial_to_the_bit(tiny: Finished, options: list[str]) -> None:
    again = tiny.commands.run("replay", "tiny", *options)
    assert "equal to the bit" in again.stdout
    assert "DIFFERENT" not in again.stdout
    assert "another build" not in again.stdout


def test_replay_repeats_the_decisions_of_the_race(tiny: Finished) -> None:
    again = tiny.commands.run("replay", "tiny", "--decisions")
    assert "4 decisions: equal to the bit" in again.stdout
    line = tiny.commands.run("replay", "tiny", "3", "--decisions", code=2).error_line
    assert "either a trial's number or --decisions" in line


def test_replay_repeats_a_pruned_trial_up_to_where_it_was_pruned(tiny: Finished) -> None:
    with closing(Database(tiny.url, application="tests")) as database:
        study = studies.find(database, "tiny")
        pruned = [n for n, state in states(database, study.search_id) if state == "PRUNED"]
    again = tiny.commands.run("replay", "tiny", str(pruned[0]))
    assert again.stdout.count("equal\n") < 4
    assert "equal to the bit" in again.stdout


@pytest.mark.parametrize(
    "altered",
    [
        # The last bit of one agent's mean at one evaluation; one agent's score.
        "UPDATE fleet.metrics SET values[2] = values[2] * (1 + 2.3e-16::float8)"
        " WHERE step = 16 AND name = 'return'",
        "UPDATE public.trial_user_attributes SET value_json = '[1.0, 2.0]' WHERE key = 'scores'",
    ],
)
def test_replay_notices_an_altered_bit(server: Server, tiny: Finished, altered: str) -> None:
    assert tiny.url.database is not None
    with server.fresh_database(template=tiny.url.database) as url:
        with closing(Database(url, application="tests")) as database:
            table = altered.split()[1]
            with database.transaction() as connection:
                # The guard forbids it to everybody who may not do this.
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER fleet_guard"))
                assert connection.execute(text(altered)).rowcount > 0
        with closing(Commands(tiny.folder, url)) as commands:
            commands.started = tiny.commands.started
            again = commands.run("replay", "tiny", "0", code=1)
    assert "NOT equal" in again.stdout
    assert again.stderr == ""


def test_replay_trains_where_the_trial_was_trained_or_says_that_it_cannot(
    server: Server, tiny: Finished
) -> None:
    assert tiny.url.database is not None
    elsewhere = (
        "UPDATE public.trial_user_attributes SET value_json = '\"cuda\"' WHERE key = 'device'"
    )
    with server.fresh_database(template=tiny.url.database) as url:
        with (
            closing(Database(url, application="tests")) as database,
            database.transaction() as connection,
        ):
            unguard = "ALTER TABLE public.trial_user_attributes DISABLE TRIGGER fleet_guard"
            connection.execute(text(unguard))
            assert connection.execute(text(elsewhere)).rowcount > 0
        with closing(Commands(tiny.folder, url)) as commands:
            commands.started = tiny.commands.started
            refused = commands.run("replay", "tiny", "0", code=2)
            assert "trial 0 was trained on 'cuda'" in refused.error_line
            assert "--device cpu" in refused.error_line
            here = commands.run("replay", "tiny", "0", "--device", "cpu")
    assert "another build, so bits may differ: device cuda there, cpu here" in here.stdout
    assert "equal to the bit" in here.stdout


def test_check_tells_what_a_study_will_cost(tiny: Finished) -> None:
    shown = " ".join(tiny.commands.run("check", "study.toml").stdout.split())
    assert "8 trials × 2 seeds × 64 steps = 1,024 agent-steps at most" in shown
    assert "and 512 in the final stage at most (the race saves some)" in shown
    assert "a race of the best 2 × at most 1 block of 2 fresh seeds × 1 episodes" in shown
    assert "4 observations, 2 actions" in shown


def test_running_it_again_says_that_it_has_ended(tiny: Finished) -> None:
    manifest = (tiny.folder / "models" / "tiny.json").read_bytes()
    again = tiny.commands.run("run", "study.toml", "--workers", "2")
    assert "study 'tiny' has ended before; nothing is left to do" in again.stdout
    assert "winner: trial" in again.stdout
    assert (tiny.folder / "models" / "tiny.json").read_bytes() == manifest
    with closing(Database(tiny.url, application="tests")) as database:
        check_invariants(database, "tiny")


def test_a_worker_of_an_ended_study_has_nothing_to_do(tiny: Finished) -> None:
    assert "study ended" in tiny.commands.run("worker", "tiny").stderr


def test_the_same_name_with_another_file_is_refused_with_the_differences(tiny: Finished) -> None:
    for number, command in enumerate(("run", "coordinate")):
        changed = STUDY.replace("seed = 3", "seed = 4").replace("trials = 8", "trials = 9")
        file = tiny.commands.study_file(changed, f"changed-{number}.toml")
        line = tiny.commands.run(command, file, code=2).error_line
        assert "seed: 3 there, 4 here" in line
        assert "search.trials: 8 there, 9 here" in line
        assert "new name" in line
