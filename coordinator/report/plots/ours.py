"""The plots that Optuna does not have: seeds, fresh seeds, workers, and where the compute went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from coordinator.certainty import certainty_of_row, footnote
from coordinator.report.account import KINDS, account, kind_of
from coordinator.report.data import StudyData
from coordinator.report.plots.chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OUTCOMES,
    SERIES,
    Bars,
    Chart,
    Line,
    Points,
)
from trialfleet.store.metrics import Curve
from trialfleet.study.measures import as_score
from trialfleet.study.values import combined

_CURVES = 5  # trials whose curves are drawn
_SPREAD = 30  # trials whose seeds are drawn
_LANES = 40  # workers
_SLOTS = 1_500  # attempts of a worker that begin closer than this part of the time are one bar


def learning_curves(data: StudyData) -> Chart:
    """Return while training: the finalists on fresh seeds, or the best trials so far."""
    drawn = _finalists_curves(data)
    what, left = "finalists on fresh seeds", len(data.finalists) - len(drawn)
    if not drawn:
        what, left = "best trials of the search", 0
        drawn = [(f"trial {t.number}", [data.returns.get(t.number, [])]) for t in data.complete]
        drawn = [(name, curves) for name, curves in drawn[:_CURVES] if any(curves)]
    if not drawn:
        raise data.nothing_to_show("no trial has been trained to its end")
    return Chart(
        x="environment steps of each agent",
        y="mean evaluation return",
        layers=[
            _banded(name, curves, color)
            for (name, curves), color in zip(drawn, SERIES, strict=False)
        ],
        note=f"The {what}: mean over seeds; the band holds the middle 80% of the seeds."
        + (f" {left} further finalists are not drawn." if left > 0 else ""),
    )


def _finalists_curves(data: StudyData) -> list[tuple[str, list[Curve]]]:
    """Name and curves of each finalist that has any, the best first."""
    found = []
    for row in data.finalists:
        curves = [
            data.final_returns[trial.number]
            for trial in data.final
            if trial.user_attrs.get("finalist") == row["rank"]
            and trial.number in data.final_returns
        ]
        won = " (winner)" if row is data.winner else ""
        if curves:
            found.append((f"trial {row['trial']}{won}", curves))
    return found[: len(SERIES)]


def _score(data: StudyData) -> str:
    """What a score is; a training of the user's own has no returns."""
    return "score (mean return)" if data.study.spec.task.objective is None else "score"


def _steps(data: StudyData) -> str:
    return "agent-steps" if data.study.spec.task.objective is None else "steps"


def finalists(data: StudyData) -> Chart:
    """Each finalist's fresh seeds, their mean with its interval, and what the search believed."""
    rows = [row for row in data.finalists if not row["failures"]][:_SPREAD]
    if not rows:
        raise data.nothing_to_show("no final stage has ended, so no finalist has fresh seeds")
    names = [f"trial {row['trial']}" for row in rows]
    confirmed = (data.result or {}).get("confirmation")
    if confirmed:
        rows, names = [confirmed, *rows], [f"{names[0]}, confirmed", *names]
    places = [float(len(rows) - at) for at in range(len(rows))]
    seeds_x, seeds_y, texts = [], [], []
    for place, row in zip(places, rows, strict=True):
        for index, score in enumerate(row["scores"]):
            seeds_x.append(score)
            # Equal scores would hide each other: spread them, the same way each time.
            seeds_y.append(place - 0.26 + 0.12 * ((index * 0.618) % 1 - 0.5))
            texts.append(f"trial {row['trial']}, seed {row['seeds'][index]}: {as_score(score)}")
    means = [row["mean"] for row in rows]
    ends = [_ends(row) for row in rows]
    return Chart(
        x=_score(data),
        y="",
        layers=[
            Points(name="a fresh seed", x=seeds_x, y=seeds_y, color=GREY, texts=texts, faint=True),
            Points(
                name="mean and 95% interval",
                x=means,
                y=places,
                color=BLUE,
                along_x=True,
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
                size=11,
                texts=[
                    f"trial {row['trial']}: mean {as_score(row['mean'])}, "
                    f"{certainty_of_row(row).told(like=row['mean'])}"
                    for row in rows
                ],
            ),
            Points(
                name="search score",
                x=[row["search_score"] for row in rows],
                y=places,
                color=ORANGE,
                symbol="diamond",
                size=11,
                texts=[
                    f"trial {row['trial']}: search {as_score(row['search_score'])}" for row in rows
                ],
            ),
        ],
        y_ticks=[*zip(places, names, strict=True)],
        y_range=(0.4, len(rows) + 0.6),
        height=150 + 80 * len(rows),
        note="A search score is a maximum over trials, hence optimistic; fresh seeds are not."
        + (" The first line is the winner on seeds that chose nothing." if confirmed else "")
        + f" {footnote(data.finalists)}",
    )


def search_against_fresh(data: StudyData) -> Chart:
    """Search score against fresh-seed mean; on the dashed line both are equal."""
    rows = [row for row in data.finalists if not row["failures"]]
    if not rows:
        raise data.nothing_to_show("no final stage has ended, so no finalist has fresh seeds")
    every = [row["search_score"] for row in rows] + [end for row in rows for end in _ends(row)]
    low, high = min(every), max(every)
    room = 0.08 * (high - low) or 1.0
    ends = [low - room, high + room]
    rank = data.study.result["winner"] if data.study.result else None
    layers: list[Line | Points | Bars] = [
        Line(name="search = fresh", x=ends, y=ends, color=GREY, dashed=True)
    ]
    for name, color, own in (
        ("winner", GREEN, [row for row in rows if row["rank"] == rank]),
        ("other finalists", BLUE, [row for row in rows if row["rank"] != rank]),
    ):
        if own:
            layers.append(
                Points(
                    name=name,
                    x=[row["search_score"] for row in own],
                    y=[row["mean"] for row in own],
                    low=[_ends(row)[0] for row in own],
                    high=[_ends(row)[1] for row in own],
                    color=color,
                    size=10,
                    texts=[
                        f"trial {row['trial']}: search {as_score(row['search_score'])}, fresh "
                        f"{as_score(row['mean'])} "
                        f"(gap {as_score(row['gap'], like=row['mean'], sign='+')})"
                        for row in own
                    ],
                )
            )
    return Chart(
        x="search score",
        y="mean over fresh seeds",
        layers=layers,
        x_range=(ends[0], ends[1]),
        y_range=(ends[0], ends[1]),
        note="Below the dashed line the search promised too much; bars are 95% intervals. "
        + footnote(rows),
    )


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    """The interval that a plot draws around a mean; where there is none, nothing."""
    return certainty_of_row(row).ends or (row["mean"], row["mean"])


def seed_spread(data: StudyData) -> Chart:
    """The scores of each seed of the best trials."""
    best = [trial for trial in data.complete if trial.user_attrs.get("scores")][:_SPREAD]
    if not best:
        raise data.nothing_to_show("no trial has been completed")
    x, y, texts = [], [], []
    for place, trial in enumerate(best):
        seeds = trial.user_attrs.get("seeds", [])
        for index, score in enumerate(trial.user_attrs["scores"]):
            x.append(float(place))
            y.append(score)
            seed = seeds[index] if index < len(seeds) else index
            texts.append(f"trial {trial.number}, seed {seed}: {as_score(score)}")
    over_seeds = data.study.spec.search.over_seeds
    scores = [combined(each.user_attrs["scores"], over_seeds, maximize=True) for each in best]
    return Chart(
        x="trial, the best first",
        y=_score(data),
        layers=[
            Points(name="a seed", x=x, y=y, color=BLUE, texts=texts, faint=True),
            Points(
                name=f"their {over_seeds}",
                x=[float(place) for place in range(len(best))],
                y=scores,
                color=ORANGE,
                symbol="tick",
                size=16,
                texts=[
                    f"trial {trial.number}: {as_score(score)}"
                    for trial, score in zip(best, scores, strict=True)
                ],
            ),
        ],
        x_ticks=[(float(place), str(trial.number)) for place, trial in enumerate(best)],
        note=f"The best {len(best)} of {len(data.complete)} completed trials. Seeds far apart: "
        "the ranking is partly luck.",
    )


def workers(data: StudyData) -> Chart:
    """What each worker did when; lost attempts stand out."""
    if not data.attempts:
        raise data.nothing_to_show("no worker has taken a trial")
    begin = min(attempt.started for attempt in data.attempts)
    end = max(attempt.ended for attempt in data.attempts)
    unit, divisor = _unit((end - begin).total_seconds())
    lanes: dict[str, list[tuple[float, float, str, str]]] = defaultdict(list)
    for attempt in data.attempts:
        stage = "final trial" if attempt.study_id == data.study.final_id else "trial"
        lanes[attempt.worker].append(
            (
                _since(begin, attempt.started) / divisor,
                _since(begin, attempt.ended) / divisor,
                kind_of(data, attempt, data.trials.get((attempt.study_id, attempt.number))),
                f"{stage} {attempt.number}",
            )
        )
    # Workers that lost something are never left out.
    order = sorted(
        lanes, key=lambda name: (all(kind != "lost" for *_, kind, _ in lanes[name]), lanes[name][0])
    )
    drawn = sorted(order[:_LANES], key=lambda name: lanes[name][0])
    slot = (end - begin).total_seconds() / divisor / _SLOTS
    bars: dict[str, tuple[list[float], list[float], list[float], list[str]]] = {}
    merged = 0
    for lane, name in enumerate(reversed(drawn)):
        for first, last, kind, text, count in _merged(sorted(lanes[name]), slot):
            ys, starts, lengths, texts = bars.setdefault(kind, ([], [], [], []))
            ys.append(float(lane))
            starts.append(first)
            # A lost attempt must be seen, however long the study took.
            lengths.append(max(last - first, 4 * slot if kind == "lost" else 0.0))
            texts.append(f"{name}: {text}, {kind}, {last - first:.3g} {unit}")
            merged += count - 1
    notes = ["A bar is one attempt at a trial."]
    if merged:
        notes.append(
            f"{merged:,} attempts that follow another of their kind closely share its bar."
        )
    if len(order) > len(drawn):
        notes.append(f"{len(drawn)} of {len(order)} workers, those with lost attempts first.")
    return Chart(
        x=f"{unit} since the first trial began",
        y="",
        layers=[
            Bars(
                name=kind,
                y=bars[kind][0],
                start=bars[kind][1],
                length=bars[kind][2],
                color=OUTCOMES[kind],
                texts=bars[kind][3],
            )
            for kind in KINDS
            if kind in bars
        ],
        y_ticks=[(float(lane), _short(name)) for lane, name in enumerate(reversed(drawn))],
        y_range=(-0.7, len(drawn) - 0.3),
        height=170 + 26 * len(drawn),
        note=" ".join(notes),
    )


def budget(data: StudyData) -> Chart:
    """The share of agent-steps and worker-seconds by what became of them."""
    entries = account(data)
    if not entries:
        raise data.nothing_to_show("no worker has taken a trial")
    seconds = sum(entry.worker_seconds for entry in entries) or 1.0
    steps = sum(entry.agent_steps for entry in entries) or 1
    at = [0.0, 0.0]
    layers = []
    for entry in entries:
        shares = [100 * entry.agent_steps / steps, 100 * entry.worker_seconds / seconds]
        layers.append(
            Bars(
                name=entry.kind,
                y=[0.0, 1.0],
                start=[*at],
                length=shares,
                color=OUTCOMES[entry.kind],
                texts=[
                    f"{entry.kind}: {entry.agent_steps:,} {_steps(data)} ({shares[0]:.1f}%)",
                    f"{entry.kind}: {entry.worker_seconds:,.0f} worker-seconds ({shares[1]:.1f}%)",
                ],
                width=0.55,
            )
        )
        at = [begin + share for begin, share in zip(at, shares, strict=True)]
    return Chart(
        x="share of the study, %",
        y="",
        layers=layers,
        y_ticks=[(0.0, _steps(data)), (1.0, "worker-seconds")],
        x_range=(0.0, 100.0),
        height=240,
    )


def _banded(name: str, curves: list[Curve], color: str) -> Line:
    """Mean and middle 80% over all agents of these curves, at the steps that they have."""
    values: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for step, returns in curve:
            values[step] += [value for value in returns if np.isfinite(value)]
    steps = sorted(step for step in values if values[step])
    low, high = (
        [float(np.quantile(values[step], share)) for step in steps] for share in (0.1, 0.9)
    )
    means = [float(np.mean(values[step])) for step in steps]
    return Line(
        name=name, x=[float(step) for step in steps], y=means, low=low, high=high, color=color
    )


def _merged(
    bars: list[tuple[float, float, str, str]], slot: float
) -> list[tuple[float, float, str, str, int]]:
    """Bars of one lane, those of a kind joined that are too close and short to be told apart."""
    found: list[tuple[float, float, str, str, int]] = []
    for first, last, kind, text in bars:
        if found:
            begin, end, kind_before, _, count = found[-1]
            near = kind == kind_before and last - begin < 3 * slot and first - end < slot
            if near and kind != "lost":
                found[-1] = (begin, max(end, last), kind, f"{count + 1} attempts", count + 1)
                continue
        found.append((first, last, kind, text, 1))
    return found


def _since(begin: datetime, moment: datetime) -> float:
    return (moment - begin).total_seconds()


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:12]}…{name[-15:]}"
