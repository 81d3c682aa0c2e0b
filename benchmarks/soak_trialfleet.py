"""Trialfleet under the soak: a study of tiny trainings, and what its rows and logs must say."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from psycopg2.extras import NamedTupleCursor

from benchmarks.schedule import Kind
from benchmarks.soak_drive import Hit, Verdict
from benchmarks.soak_fleet import Fleet, bare_environment
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.settings import PREFIX
from trialfleet.store.storage import Database
from trialfleet.study.file import parse

# A real training of some tenths of a second: four segments, each with a report and a checkpoint.
STUDY = """
name = "soak"
seed = {seed}

[task]
seeds = 2
train_steps = 1024
eval_every = 256
eval_episodes = 1
score_episodes = 1

[agent]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
gamma = {{ low = 0.9, high = 0.999 }}
batch_size = 4
buffer_size = 64
learning_starts = 0
train_freq = {{ choices = [2, 4, 8] }}
net_arch = [8]

[search]
trials = {trials}
sampler = "random"
pruner = "hyperband"
max_failures = {trials}

[final]
top = 1
race = false
seeds = 2
episodes = 1
"""

TRIALS = """
    SELECT CASE t.study_id WHEN s.search_id THEN 'search' ELSE 'final' END AS stage,
           t.trial_id, t.number, t.state::text AS state, round(v.value::numeric, 6)::float AS value
    FROM fleet.studies s
    JOIN public.trials t ON t.study_id IN (s.search_id, s.final_id)
    LEFT JOIN public.trial_values v USING (trial_id)
    ORDER BY t.study_id, t.number
"""
ATTEMPTS = """
    SELECT trial_id, fence, worker, outcome, extract(epoch FROM claimed_at)::float AS claimed,
           extract(epoch FROM ended_at)::float AS ended
    FROM fleet.attempts ORDER BY trial_id, fence
"""
STAGE = "SELECT stage, reason FROM fleet.studies"


class Trialfleet:
    """Coordinator and workers as anyone would start them.

    Args:
        trials: The study's budget.
        seed: The study's.
        lease: Seconds.
    """

    name = "Trialfleet"
    ready = "worker ready"
    count = """
        SELECT count(*) FROM public.trials t JOIN fleet.studies s ON t.study_id = s.search_id
        WHERE t.state IN ('COMPLETE', 'PRUNED')
    """

    def __init__(self, *, trials: int, seed: int, lease: float) -> None:
        self._trials, self._seed, self._lease = trials, seed, lease
        self._url, self._folder = "", Path()

    def prepare(self, url: str, folder: Path) -> None:
        """Migrate, and create the study, which the coordinator then joins."""
        self._url, self._folder = url, folder
        text = STUDY.format(trials=self._trials, seed=self._seed)
        self._file.write_text(text, encoding="utf-8")
        migrate(parse_url(url))
        database = Database(parse_url(url), application="soak")
        create_or_join(database, parse(text, source=self._file.name))
        database.close()

    @property
    def _file(self) -> Path:
        return self._folder / "soak.toml"

    @property
    def worker(self) -> list[str]:
        """`trialfleet worker`."""
        return ["-P", "-m", "trialfleet.cli", "worker", "soak", "--with-parent"]

    @property
    def coordinator(self) -> list[str] | None:
        """`trialfleet coordinate`."""
        return ["-P", "-m", "trialfleet.cli", "coordinate", str(self._file)]

    @property
    def environment(self) -> Mapping[str, str]:
        """A short lease, a checkpoint after every segment, and logs to read afterwards."""
        settings = {
            "database_url": self._url,
            "lease_seconds": f"{self._lease:g}",
            "checkpoint_every": "0",
            "log_format": "json",
        }
        named = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
        return {**bare_environment(PREFIX), **named}

    def judge(self, connection: Any, hits: Sequence[Hit], fleet: Fleet) -> Verdict:
        """Compare rows, attempts, acknowledgements and hits."""
        with connection.cursor(cursor_factory=NamedTupleCursor) as cursor:
            trials, attempts, stages = (_rows(cursor, q) for q in (TRIALS, ATTEMPTS, STAGE))
        self._keep(trials, attempts, hits)
        search = [trial for trial in trials if trial.stage == "search"]
        counted = sum(trial.state in ("COMPLETE", "PRUNED") for trial in search)
        acknowledged, resumed = _told(fleet)
        found = {(t.stage, t.number, t.state, t.value) for t in trials}
        gone = sorted(set(acknowledged) - found)
        twice = [each for each, times in acknowledged.items() if times > 1]
        finished = Counter(a.trial_id for a in attempts if a.outcome == "finished")
        repeated = Counter((t.stage, t.number) for t in trials)
        double = (
            max(0, counted - self._trials)
            + sum(times - 1 for times in repeated.values())
            + max(len(twice), sum(times > 1 for times in finished.values()))
        )
        pending = [t for t in trials if t.state in ("RUNNING", "WAITING")]
        unended = [stage for stage in stages if stage.stage not in ("done", "failed")]
        open_leases = sum(a.ended is None for a in attempts)
        notes = [f"acknowledged but gone: {gone}"] if gone else []
        notes += [f"acknowledged twice: {twice}"] if twice else []
        notes += [f"the study failed: {stage.reason}" for stage in stages if stage.reason]
        recoveries = _recoveries(trials, attempts, hits)
        return Verdict(
            counted=counted,
            rows=len(search),
            failed=sum(trial.state == "FAIL" for trial in search),
            retry_rows=0,
            lost=max(0, self._trials - counted) + len(gone),
            double=double,
            stuck=max(len(pending), open_leases) + len(unended),
            held=Counter({kind: len(times) for kind, times in recoveries.items()}),
            retried=len(attempts) - len({a.trial_id for a in attempts}),
            resumed=resumed,
            recoveries=[s for s in recoveries["kill"] if s is not None],
            stall_recoveries=[s for s in recoveries["stall"] if s is not None],
            notes=notes,
        )

    def _keep(self, trials: list[Any], attempts: list[Any], hits: Sequence[Hit]) -> None:
        """Leave what was judged beside the logs."""
        rows = {
            "trials": [trial._asdict() for trial in trials],
            "attempts": [attempt._asdict() for attempt in attempts],
            "hits": [vars(hit) for hit in hits],
        }
        (self._folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _rows(cursor: Any, query: str) -> list[Any]:
    cursor.execute(query)
    rows: list[Any] = cursor.fetchall()
    return rows


def _told(fleet: Fleet) -> tuple[Counter[tuple[str, int, str, float]], int]:
    """What workers said they had finished: once the database had acknowledged it; and resumptions.

    A worker says nothing of a FAIL.
    """
    finished: Counter[tuple[str, int, str, float]] = Counter()
    resumed = 0
    for _, line in fleet.log_lines():
        if line.get("event") == "finished":
            finished[line["stage"], line["trial"], line["state"], line["value"]] += 1
        resumed += line.get("event") == "resumed"
    return finished, resumed


def _recoveries(
    trials: list[Any], attempts: list[Any], hits: Sequence[Hit]
) -> defaultdict[Kind, list[float | None]]:
    """For each hit of a worker that held a trial: seconds until the trial was claimed or ended.

    None where that never happened.
    """
    following = {a.fence: b for a, b in pairwise(attempts)}
    states = {trial.trial_id: trial.state for trial in trials}
    seconds: defaultdict[Kind, list[float | None]] = defaultdict(list)
    for hit in hits:
        for attempt in attempts:
            held = attempt.claimed <= hit.at < (attempt.ended or sys.float_info.max)
            # A worker is called HOST-PID-TOKEN.
            if not held or int(attempt.worker.rsplit("-", 2)[1]) != hit.pid:
                continue
            after = following.get(attempt.fence)
            recovered: float | None = None
            if after is not None and after.trial_id == attempt.trial_id:
                recovered = after.claimed
            elif states[attempt.trial_id] not in ("RUNNING", "WAITING"):
                recovered = attempt.ended
            seconds[hit.kind].append(None if recovered is None else recovered - hit.at)
    return seconds
