"""Plain Optuna under the same soak: `study.optimize` with RDBStorage heartbeats and retries.

Configured as Optuna's documentation recommends for workers that may die, on the same PostgreSQL,
with the same objective, sampler and pruner:
https://optuna.readthedocs.io/en/stable/tutorial/20_recipes/011_journal_storage.html (many
processes), https://optuna.readthedocs.io/en/stable/reference/generated/optuna.storages.RDBStorage.html
(heartbeats, pool_pre_ping) and MaxTrialsCallback for the budget.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState
from psycopg2.extras import NamedTupleCursor

from benchmarks.schedule import Kind
from benchmarks.soak_drive import Hit, Verdict
from benchmarks.soak_fleet import Fleet, bare_environment
from benchmarks.soak_trialfleet import STUDY
from benchmarks.stock import make_pruner
from trialfleet import seeds
from trialfleet.postgres.url import parse_url
from trialfleet.search import space
from trialfleet.settings import PREFIX
from trialfleet.study.file import parse
from trialfleet.study.spec import Spec

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)

# Optuna's timestamps are the client's local time, and the clients' TZ is UTC.
TRIALS = """
    SELECT t.number, t.state::text AS state, round(v.value::numeric, 2)::float AS value,
           extract(epoch FROM t.datetime_start)::float AS started,
           extract(epoch FROM t.datetime_complete)::float AS ended,
           (SELECT value_json FROM trial_user_attributes a
            WHERE a.trial_id = t.trial_id AND key = 'pid') AS pid,
           (SELECT value_json FROM trial_system_attributes a
            WHERE a.trial_id = t.trial_id AND key = 'retry_history') AS history
    FROM trials t LEFT JOIN trial_values v USING (trial_id) ORDER BY t.number, t.trial_id
"""


def open_storage(url: str, lease: float) -> RDBStorage:
    """RDBStorage as a careful user opens it: a lost worker is noticed after our lease's time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=max(1, round(lease / 3)),
            grace_period=max(1, round(lease)),
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )


class PlainOptuna:
    """Workers without a coordinator, started again by a supervisor when they die.

    Args:
        trials: The study's budget.
        seed: The study's.
        lease: Seconds; the grace period.
    """

    name = "plain Optuna"
    ready = "worker ready"
    count = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"

    def __init__(self, *, trials: int, seed: int, lease: float) -> None:
        self._trials, self._seed, self._lease = trials, seed, lease
        self._url, self._folder = "", Path()

    def prepare(self, url: str, folder: Path) -> None:
        """Create Optuna's tables and the study."""
        # The embedded server's URL names no driver; the one installed does for both columns.
        self._url = parse_url(url).render_as_string(hide_password=False)
        self._folder = folder
        text = STUDY.format(trials=self._trials, seed=self._seed)
        (folder / "soak.toml").write_text(text, encoding="utf-8")
        storage = open_storage(self._url, self._lease)
        optuna.create_study(storage=storage, study_name="soak", direction="maximize")
        storage.engine.dispose()

    @property
    def worker(self) -> list[str]:
        """This module, as a program."""
        file = str(self._folder / "soak.toml")
        return ["-m", "benchmarks.soak_optuna", self._url, file, f"{self._lease:g}"]

    @property
    def coordinator(self) -> list[str] | None:
        """Optuna has none."""
        return None

    @property
    def environment(self) -> Mapping[str, str]:
        """Timestamps in UTC; nothing else is asked for."""
        return {**bare_environment(PREFIX), "TZ": "UTC"}

    def judge(self, connection: Any, hits: Sequence[Hit], fleet: Fleet) -> Verdict:
        """Compare rows, acknowledgements and hits."""
        with connection.cursor(cursor_factory=NamedTupleCursor) as cursor:
            cursor.execute(TRIALS)
            trials = cursor.fetchall()
        rows = {"trials": [t._asdict() for t in trials], "hits": [vars(hit) for hit in hits]}
        (self._folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        counted = sum(trial.state in ("COMPLETE", "PRUNED") for trial in trials)
        acknowledged = Counter(
            (line["trial"], line["state"], line["value"])
            for _, line in fleet.log_lines()
            if line.get("event") == "finished"
        )
        gone = sorted(set(acknowledged) - {(t.number, t.state, t.value) for t in trials})
        repeated = Counter(trial.number for trial in trials)
        retries = {json.loads(trial.history)[-1]: trial for trial in trials if trial.history}
        recoveries = _recoveries(trials, retries, hits)
        notes = [f"acknowledged but gone: {gone}"] if gone else []
        failed = [trial.number for trial in trials if trial.state == "FAIL"]
        if given_up := [number for number in failed if number not in retries]:
            notes.append(f"FAIL and never retried: trials {given_up}")
        return Verdict(
            counted=counted,
            rows=len(trials),
            failed=len(failed),
            retry_rows=len(retries),
            lost=max(0, self._trials - counted) + len(gone),
            double=max(0, counted - self._trials)
            + sum(times - 1 for times in repeated.values())
            + sum(times > 1 for times in acknowledged.values()),
            stuck=sum(trial.state in ("RUNNING", "WAITING") for trial in trials),
            held=Counter({kind: len(times) for kind, times in recoveries.items()}),
            retried=sum(trial.started is not None for trial in retries.values()),
            resumed=0,
            recoveries=[s for s in recoveries["kill"] if s is not None],
            stall_recoveries=[s for s in recoveries["stall"] if s is not None],
            notes=notes,
        )


def _recoveries(
    trials: list[Any], retries: Mapping[int, Any], hits: Sequence[Hit]
) -> defaultdict[Kind, list[float | None]]:
    """For each hit of a worker that held a trial: seconds until its retry began, None if never."""
    seconds: defaultdict[Kind, list[float | None]] = defaultdict(list)
    for hit in hits:
        for trial in trials:
            if trial.pid is None or json.loads(trial.pid) != hit.pid or trial.started is None:
                continue
            if not trial.started <= hit.at < (trial.ended or sys.float_info.max):
                continue
            after = retries.get(trial.number)
            recovered = after.started if after is not None else None
            seconds[hit.kind].append(None if recovered is None else recovered - hit.at)
    return seconds


class Objective:
    """Trialfleet's training of a trial, by hand: the same steps, reports and pruning."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def __call__(self, trial: optuna.Trial) -> float:
        """Train the trial; its score."""
        from worker.trainers.dqn.trainer import Training
        from worker.trainers.protocol import Job, Progress, Score

        trial.set_user_attr("pid", os.getpid())
        task = self._spec.task
        training = Training(
            Job(
                env=task.env,
                knobs=space.suggest(trial, self._spec.agent),
                seeds=seeds.search_seeds(self._spec.seed, trial.number, task.seeds),
                train_steps=task.train_steps,
                eval_every=task.eval_every,
                eval_episodes=task.eval_episodes,
                score_episodes=task.score_episodes,
                keep="best" if task.keep == "best" else "last",
            )
        )
        for event in training.run():
            if isinstance(event, Score):
                return float(event.returns.mean())
            if isinstance(event, Progress):
                continue
            trial.report(float(event.metrics["return"].mean()), event.step)
            if event.step < task.train_steps and trial.should_prune():
                raise optuna.TrialPruned
        raise AssertionError("a training ends with its score")


def work(url: str, file: Path, lease: float) -> None:
    """Run trials until enough of them count."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    spec = parse(file.read_text(encoding="utf-8"), source=file.name)
    study = optuna.load_study(
        study_name="soak",
        storage=open_storage(url, lease),
        sampler=optuna.samplers.RandomSampler(),
        pruner=make_pruner(spec),
    )
    _say(event="worker ready")
    if len(study.get_trials(deepcopy=False, states=COUNTED)) < spec.search.trials:
        enough = MaxTrialsCallback(spec.search.trials, states=COUNTED)
        study.optimize(Objective(spec), callbacks=[_acknowledge, enough])


def _acknowledge(_study: optuna.Study, trial: FrozenTrial) -> None:
    if trial.state in COUNTED and trial.value is not None:
        value = round(trial.value, 2)
        _say(event="finished", trial=trial.number, state=trial.state.name, value=value)


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
