"""What must hold once a study has ended, whatever was killed on the way (A to F of the design)."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection, Row, text

from trialfleet.artifacts.stores import open_store
from trialfleet.store.storage import Database

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

STUDY = text("SELECT * FROM fleet.studies WHERE name = :name")
TRIALS = text("""
    SELECT t.trial_id, t.number, t.state::text AS state, t.datetime_complete,
           ARRAY(SELECT v.value FROM public.trial_values v
                 WHERE v.trial_id = t.trial_id) AS "values",
           (SELECT json_object_agg(a.key, a.value_json::json)
            FROM public.trial_user_attributes a WHERE a.trial_id = t.trial_id) AS attributes,
           ARRAY(SELECT i.step FROM public.trial_intermediate_values i
                 WHERE i.trial_id = t.trial_id ORDER BY i.step) AS reported,
           ARRAY(SELECT m.step FROM fleet.metrics m
                 WHERE m.trial_id = t.trial_id AND m.name = 'return' ORDER BY m.step) AS drawn,
           ARRAY(SELECT coalesce(a.outcome, 'open') FROM fleet.attempts a
                 WHERE a.trial_id = t.trial_id ORDER BY a.fence) AS attempts
    FROM public.trials t WHERE t.study_id = :study_id ORDER BY t.number, t.trial_id
""")

DECISIONS = text("""
    SELECT block, finalist, verdict, seeds FROM fleet.decisions WHERE final_id = :final_id
    ORDER BY block, finalist
""")


def check_invariants(database: Database, study_name: str) -> None:
    """Look through the rows of a study that has ended.

    Raises:
        AssertionError: Its message lists everything that does not hold.
    """
    broken: list[str] = []
    with database.transaction() as connection:
        study = connection.execute(STUDY, {"name": study_name}).one()
        spec = json.loads(study.spec)
        every = _trials(connection, study.search_id)
        # Those that no worker trained keep numbers dense, and count for nothing else.
        search = [trial for trial in every if not _imported(trial)]
        final = _trials(connection, study.final_id) if study.final_id is not None else []
        decided = connection.execute(DECISIONS, {"final_id": study.final_id}).all()
        objectives = len(spec.get("search", {}).get("objectives", ["score:max"]))
        broken += [
            f"search: {line}" for line in [*_dense(every), *_each_ending(search, objectives)]
        ]
        broken += [f"final: {line}" for line in [*_dense(final), *_each_ending(final, objectives)]]
    store = open_store(study.artifacts, database)
    broken += _models(store, final)
    if study.stage == "done":
        broken += _model(store, study.result["model"], "the best agent")
        for number, model in study.result.get("models", {}).items():
            broken += _model(store, model, f"the agent of trial {number}")
    budget = study.budget - study.imported
    if len(every) - len(search) != study.imported:
        broken.append(f"B: {len(every) - len(search)} imported trials, not {study.imported}")
    counted = sum(trial["state"] in ("COMPLETE", "PRUNED") for trial in search)
    failed = sum(trial["state"] == "FAIL" for trial in search)
    if study.stage not in ("done", "failed"):
        broken.append(f"the study is still at {study.stage!r}")
    if study.stage == "done" and counted != budget:
        broken.append(f"A: {counted} trials count, the budget is {budget}")
    if counted > budget:
        broken.append(f"A: {counted} trials count, more than the budget of {budget}")
    if len(search) != counted + failed:
        broken.append(f"B: {len(search)} rows for {counted} counted and {failed} failed trials")
    if study.stage == "done" and failed > study.max_failures:
        broken.append(f"A: {failed} trials failed, {study.max_failures} may")
    broken += _seeds(search, final, spec, whole=study.stage == "done")
    if decided:
        broken += _race(final, decided, spec, whole=study.stage == "done")
    assert not broken, "\n".join([f"study {study_name!r}:", *broken])


def _imported(trial: dict[str, Any]) -> bool:
    """Whether it is what `import` makes; anybody can enqueue a trial with the attribute."""
    return "imported" in trial["attributes"] and trial["state"] == "COMPLETE"


def _trials(connection: Connection, study_id: int) -> list[dict[str, Any]]:
    rows = connection.execute(TRIALS, {"study_id": study_id})
    return [{**row._mapping, "attributes": row.attributes or {}} for row in rows]


def _dense(trials: list[dict[str, Any]]) -> list[str]:
    numbers = [trial["number"] for trial in trials]
    return [] if numbers == list(range(len(trials))) else [f"D: the numbers are {numbers}"]


def _each_ending(trials: list[dict[str, Any]], objectives: int) -> list[str]:
    broken = []
    for trial in trials:
        state, number = trial["state"], trial["number"]
        outcomes = Counter(trial["attempts"])
        if state in ("RUNNING", "WAITING"):
            broken.append(f"C: trial {number} is {state}")
        if outcomes["open"]:
            broken.append(f"C: trial {number} still has a lease")
        if state in ("COMPLETE", "PRUNED"):
            if outcomes["finished"] != 1 or trial["attempts"][-1] != "finished":
                broken.append(f"E: trial {number} is {state} after attempts {trial['attempts']}")
            values = trial["values"] or []
            finite = all(value is not None and math.isfinite(value) for value in values)
            if len(values) != objectives or not finite:
                broken.append(f"E: trial {number} is {state} with values {values}")
            # A retry that mixed its reports with those of the attempt before it would show here.
            if trial["reported"] != trial["drawn"] or not trial["reported"]:
                broken.append(
                    f"B: trial {number} reported at {trial['reported']}, "
                    f"its curve is at {trial['drawn']}"
                )
        if state == "FAIL" and not trial["attributes"].get("reason"):
            broken.append(f"G: trial {number} failed without a reason")
        if state not in ("RUNNING", "WAITING") and trial["datetime_complete"] is None:
            broken.append(f"E: trial {number} is {state} but never completed")
    return broken


def _standing(final: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trials that count; one whose model was lost has been trained again."""
    replaced = {trial["attributes"].get("replaces") for trial in final}
    return [trial for trial in final if trial["number"] not in replaced]


def _models(store: ArtifactStore, final: list[dict[str, Any]]) -> list[str]:
    broken = []
    for trial in _standing(final):
        if trial["state"] != "COMPLETE":
            continue
        what = f"the model of final trial {trial['number']}"
        if "model" not in trial["attributes"]:
            broken.append(f"F: {what} is not there")
            continue
        broken += _model(store, trial["attributes"]["model"], what)
    return broken


def _model(store: ArtifactStore, promised: dict[str, Any], what: str) -> list[str]:
    try:
        with store.open_reader(promised["artifact"]) as reader:
            data = reader.read()
    except ArtifactNotFound:
        return [f"F: {what} is not stored"]
    if hashlib.sha256(data).hexdigest() != promised["sha256"] or len(data) != promised["size"]:
        return [f"F: {what} does not match its SHA-256"]
    return []


def _seeds(
    search: list[dict[str, Any]], final: list[dict[str, Any]], spec: dict[str, Any], *, whole: bool
) -> list[str]:
    broken = []
    final = _standing(final)
    searched = Counter(seed for trial in search for seed in trial["attributes"].get("seeds", []))
    fresh = Counter(seed for trial in final for seed in trial["attributes"]["seeds"])
    missing = [
        trial["number"]
        for trial in search
        if trial["state"] in ("COMPLETE", "PRUNED") and not trial["attributes"].get("seeds")
    ]
    if missing:
        broken.append(f"H: search trials {missing} do not tell their seeds")
    if searched.keys() & fresh.keys():
        broken.append(f"fresh seeds were used in the search: {searched.keys() & fresh.keys()}")
    repeated = [seed for seed, times in (searched + fresh).items() if times > 1]
    if repeated:
        broken.append(f"seeds were used more than once: {repeated}")
    finalists = Counter(
        trial["attributes"]["finalist"] for trial in final for _ in trial["attributes"]["seeds"]
    )
    if any("block" in trial["attributes"] for trial in final):
        return broken  # see `_race`
    wrong = {rank: n for rank, n in finalists.items() if n != spec["final"]["seeds"]}
    if wrong:
        broken.append(f"finalists with another number of fresh seeds: {wrong}")
    if whole and not 1 <= len(finalists) <= spec["final"]["top"]:
        broken.append(f"{len(finalists)} finalists, {spec['final']['top']} were wanted")
    return broken


def _race(
    final: list[dict[str, Any]], decided: Sequence[Row[Any]], spec: dict[str, Any], *, whole: bool
) -> list[str]:
    """Each block was decided once, and nobody was trained who had left."""
    broken = []
    final = _standing(final)
    asked = spec["final"]
    block = min(asked["seeds"], spec["task"]["seeds"])
    last = max(each.block for each in decided)
    if {each.block for each in decided} != set(range(last + 1)):
        broken.append(f"race: decisions of blocks {sorted({each.block for each in decided})}")
    enqueued = Counter(
        (trial["attributes"]["block"], trial["attributes"]["finalist"])
        for trial in final
        if "confirms" not in trial["attributes"]
    )
    due = Counter(
        (each.block + 1, each.finalist) for each in decided if each.verdict in ("enters", "stays")
    )
    if enqueued != due:
        broken.append(f"race: trained (block, finalist) {enqueued}, due were {due}")
    if any(
        len(trial["attributes"]["seeds"]) != block
        for trial in final
        if "confirms" not in trial["attributes"]
    ):
        broken.append(f"race: a block that has not {block} seeds")
    # A fixed number of seeds confirms a winner at once; or seeds are trained in blocks, each of
    # which follows from a look, until a last look ends it.
    until = asked["confirm"] if isinstance(asked["confirm"], dict) else None
    by_block = Counter(
        (trial["attributes"]["finalist"], trial["attributes"]["block"])
        for trial in final
        if "confirms" in trial["attributes"]
        for _ in trial["attributes"]["seeds"]
    )
    confirmed = {
        (each.finalist, each.block + 1)
        for each in decided
        if each.verdict in ("wins", "confirming") and asked["confirm"]
    }
    if by_block.keys() != confirmed:
        broken.append(f"race: {by_block.keys()} confirm a winner, due were {confirmed}")
    for rank in {rank for rank, _ in by_block}:
        seeds = sum(count for (each, _), count in by_block.items() if each == rank)
        if seeds > until["most"] if until else seeds != asked["confirm"]:
            broken.append(f"race: {seeds} seeds confirm {rank}, {asked['confirm']} were asked for")
    ending = {each.verdict for each in decided if each.block == last}
    over = {"confirmed", "spent"} if until else {"wins"}
    if whole and not ending & over:
        broken.append(f"race: its last decision is {ending}, nobody's end")
    return broken
