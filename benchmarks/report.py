"""How long the report of a long study takes, and how much memory.

python -m benchmarks.report

It writes a history into a PostgreSQL of its own: trials with all of their evaluations, metrics of
every seed, attempts and attributes, and a final stage. Then a process of its own reads the study,
draws every plot as HTML and as PNG, and writes page, CSV and JSON; the peak is that of its resident
memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from benchmarks.soak_fleet import ROOT, bare_environment, temporary_server
from benchmarks.storage import history
from coordinator.certainty import certainty
from coordinator.create import create_or_join
from trialfleet.cli.schema import migrate
from trialfleet.postgres.url import parse_url
from trialfleet.search import space
from trialfleet.settings import PREFIX
from trialfleet.store import studies
from trialfleet.store.storage import Database
from trialfleet.study.file import parse

STUDY = """
name = "long"
[task]
train_steps = 30_000
eval_every = {every}
[agent]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
gamma = {{ low = 0.95, high = 0.9999 }}
batch_size = {{ choices = [32, 64, 128, 256] }}
net_arch = {{ choices = [[32, 32], [64, 64], [128, 128], [256, 256]] }}
buffer_size = {{ choices = [5_000, 20_000, 50_000] }}
target_update_interval = {{ low = 10, high = 1_000, log = true }}
exploration_fraction = {{ low = 0.05, high = 0.5 }}
exploration_final_eps = {{ low = 0.0, high = 0.1 }}
[search]
trials = {trials}
pruner = "none"
"""
# What history.fill leaves out. A hundredth of the attempts is lost; 64 workers take turns.
TIMES = text("""
    UPDATE public.trials SET
        datetime_start = now() AT TIME ZONE 'utc' + make_interval(secs => number * 0.5),
        datetime_complete = now() AT TIME ZONE 'utc' + make_interval(secs => number * 0.5 + 30)
    WHERE study_id = :study_id
""")
METRICS = text("""
    INSERT INTO fleet.metrics (trial_id, name, step, values)
    SELECT t.trial_id, 'return', v.step, ARRAY[v.intermediate_value, 500 * random(),
        500 * random(), 500 * random()]
    FROM public.trials t JOIN public.trial_intermediate_values v USING (trial_id)
    WHERE t.study_id = :study_id
""")
ATTEMPTS = text("""
    INSERT INTO fleet.attempts
        (trial_id, claim_id, worker, claimed_at, lease, expires_at, ended_at, outcome, step)
    SELECT trial_id, gen_random_uuid(), 'worker-' || number % 64, at - interval '5 seconds',
        interval '30 s', at - interval '1 second', at, 'lost', 2500
    FROM (SELECT *, datetime_start AT TIME ZONE 'utc' AS at FROM public.trials) t
    WHERE study_id = :study_id AND number % 100 = 0
    UNION ALL
    SELECT trial_id, gen_random_uuid(), 'worker-' || number % 64, at, interval '30 s',
        at + interval '60 seconds', at + interval '30 seconds', 'finished', 30000
    FROM (SELECT *, datetime_start AT TIME ZONE 'utc' AS at FROM public.trials) t
    WHERE study_id = :study_id
""")
ATTRIBUTES = text("""
    INSERT INTO public.trial_user_attributes (trial_id, key, value_json)
    SELECT t.trial_id, a.key, a.value_json FROM public.trials t, LATERAL (VALUES
        ('seeds', format('[%s, %s, %s, %s]', 8 * number, 8 * number + 2, 8 * number + 4,
            8 * number + 6)),
        ('scores', format('[%s, %s, %s, %s]', 500 * random(), 500 * random(), 500 * random(),
            500 * random())),
        ('worker', format('"worker-%s"', number % 64)),
        ('host', format('"host-%s"', number % 16)),
        ('device', '"cpu"'), ('hardware', '"x86_64"'), ('attempts', '1'),
        ('versions', '{"trialfleet": "0.2.0", "python": "3.11.9", "torch": "2.13.0"}')
    ) AS a (key, value_json) WHERE t.study_id = :study_id
""")
DONE = text("""
    UPDATE fleet.studies SET stage = 'done', result = CAST(:result AS jsonb), ended_at = now()
    WHERE name = 'long'
""")


def fill(database: Database, trials: int, reports: int) -> None:
    """The study, as if it were done."""
    spec = parse(STUDY.format(trials=trials, every=30_000 // reports), source="long.toml")
    study = create_or_join(database, spec)
    history.fill(
        database,
        study.search_id,
        trials,
        distributions=space.distributions(spec.agent),
        steps=[spec.task.eval_every * (at + 1) for at in range(spec.task.segments)],
        ours=True,
    )
    with database.transaction() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in (TIMES, METRICS, ATTEMPTS, ATTRIBUTES):
            connection.execute(statement, {"study_id": study.search_id})
    best = sorted(
        database.optuna_study("long").get_trials(deepcopy=False), key=lambda t: -t.values[0]
    )
    rows = []
    for rank, trial in enumerate(best[: spec.final.top]):
        scores = [430.0 + 5 * at - 10 * rank for at in range(10)]
        rows.append(
            {
                "rank": rank,
                "trial": trial.number,
                "search_score": trial.values[0],
                "params": space.decode(trial.params, spec.agent),
                "failures": [],
                "scores": scores,
                "seeds": [2 * at + 1 for at in range(10)],
                "mean": sum(scores) / 10,
                **certainty(scores, spec.returns, together=spec.final.top).as_row(),
                "gap": trial.values[0] - sum(scores) / 10,
                "area": 1.0,
            }
        )
    model = {"final_trial": 0, "episodes": 150, "seed": 1, "score": rows[0]["scores"][0]}
    with database.transaction() as connection:
        connection.execute(
            DONE, {"result": json.dumps({"winner": 0, "finalists": rows, "model": model})}
        )


def measure(url: str, folder: Path) -> None:
    """What the child does; prints a table."""

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begin, busy = time.perf_counter(), time.process_time()
        yield
        row(what, time.perf_counter() - begin, time.process_time() - busy)

    def row(what: str, seconds: float, busy: float) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{what:28} {seconds:7.1f} {busy:7.1f} {peak:9,.0f}", flush=True)

    print(f"{'':28} {'seconds':>7} {'on CPU':>7} {'peak MB':>9}")
    begin = time.perf_counter()
    with timed("imports"):
        from coordinator.report import data, export
        from coordinator.report.page.render import page
        from coordinator.report.plots import catalog
    database = Database(parse_url(url), application="benchmark")
    with timed("read the study"):
        read = data.read(database, studies.find(database, "long"))
    with timed("page, with its plots"):
        (folder / "report.html").write_text(page(read), encoding="utf-8")
    with timed("CSV and JSON"):
        (folder / "trials.csv").write_text(export.as_csv(read), encoding="utf-8")
        (folder / "study.json").write_text(export.as_json(read), encoding="utf-8")
    for kind in ("html", "png"):
        for name, plot in catalog.PLOTS.items():
            # Contours of all pairs of many hyperparameters are for who asks for them.
            params = ["gamma", "learning_rate"] if name in ("contour", "rank") else []
            if catalog.applies(plot, read):
                with timed(f"{name}.{kind}"):
                    catalog.write(name, read, folder / f"{name}.{kind}", params)
    row("all", time.perf_counter() - begin, time.process_time())
    for name in ("report.html", "trials.csv", "study.json"):
        print(f"{name:28} {(folder / name).stat().st_size / 1e6:7.1f} MB")
    database.close()


def main() -> None:
    """Fill, then measure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--reports", type=int, default=24, help="evaluations of each trial")
    parser.add_argument("--keep", type=Path, help="folder for what was written")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.keep)
        return
    if 30_000 % options.reports:
        parser.error(f"--reports: {options.reports} does not divide 30,000 steps")
    with temporary_server(workers=4) as server, tempfile.TemporaryDirectory() as temporary:
        migrate(parse_url(server.url))
        database = Database(parse_url(server.url), application="benchmark")
        fill(database, options.trials, options.reports)
        database.close()
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.report", "--measure", server.url]
        subprocess.run(
            [*command, "--keep", str(folder)], cwd=ROOT, env=bare_environment(PREFIX), check=True
        )


if __name__ == "__main__":
    main()
