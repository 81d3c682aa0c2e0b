"""What optuna-dashboard's notes say of a study, in Markdown: what was asked, and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator import judged
from coordinator.answer import Answer, answer, race_told, row_of_winner
from coordinator.certainty import certainty_of_row, ends_told, footnote
from coordinator.status import steered
from trialfleet.escape import markdown
from trialfleet.search import space
from trialfleet.store.studies import Study
from trialfleet.study.measures import as_score
from trialfleet.study.spec import Spec


def study_note(study: Study, *, artifacts: Mapping[str, str]) -> str:
    """The note of the search and of the final stage.

    Args:
        study: As it stands.
        artifacts: Of the final stage, their ids by file name.
    """
    parts = [_asked(study), _found(study), _links(study, artifacts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def finalist_notes(study: Study) -> dict[int, str]:
    """The note of each finalist, by the number of its trial in the search; none before the end."""
    if study.result is None:
        return {}
    return {row["trial"]: _finalist(study, row) for row in study.result["finalists"]}


def _asked(study: Study) -> str:
    spec = study.spec
    task, search = spec.task, spec.search
    rows = [(name, values) for name, kind, values in space.describe(spec.agent) if kind != "fixed"]
    fixed = [
        f"{name} {values}" for name, kind, values in space.describe(spec.agent) if kind == "fixed"
    ]
    lines = [
        f"# {markdown(study.name)}",
        "",
        "## What was asked",
        "",
        f"{study.budget} configurations of {markdown(task.algorithm)} on "
        f"{markdown(task.subject)}: {task.seeds} agents each, {task.train_steps:,} steps, "
        f"with the sampler {markdown(search.sampler.name)} and the pruner "
        f"{markdown(search.pruner.name)}. "
        f"What counts is {markdown(judged.asked(spec))}. "
        f"{_final(spec)} The study's seed is {spec.seed}.",
        "",
        *_table(("hyperparameter", "searched"), rows),
    ]
    if fixed:
        lines += ["", f"Fixed: {markdown(', '.join(fixed))}."]
    return "\n".join(lines)


def _final(spec: Spec) -> str:
    """What the final stage is, in a sentence or two."""
    final = spec.final
    if not spec.races:
        return (
            f"Then the best {final.top} again, on {final.seeds} fresh seeds × {final.episodes} "
            "episodes."
        )
    confirmed = f" Then the winner on {final.confirming_told}." if final.confirm else ""
    agents = spec.task.seeds
    blocks = final.blocks(agents)
    return (
        f"Then the best {final.top} race on fresh seeds × {final.episodes} episodes, at most "
        f"{blocks} block{'' if blocks == 1 else 's'} of {final.block(agents)} seeds.{confirmed}"
    )


def _found(study: Study) -> str:
    lines = ["## What was found", ""]
    for line in steered(study):
        lines += [f"{markdown(line[0].upper() + line[1:])}.", ""]
    if study.stage == "failed":
        lines.append(f"The study failed: {markdown(study.reason or 'no reason recorded')}")
    elif study.result is None:
        lines.append("Nothing yet: the study is still under way.")
    else:
        result, best = study.result, study.result["model"]
        found, winner = answer(result), row_of_winner(result)
        beyond = not judged.by_mean_score(result)
        if warning := judged.infeasible(study.spec, result):
            lines += [f"**{markdown(warning)}**", ""]
        lines += [
            f"Trial {found.trial} won, with a mean of {_number(found.mean)} over "
            f"{found.seeds_told}. Its best agent, of seed {best['seed']}, has a "
            f"mean of {_number(best['score'])} over {best['episodes']} episodes.",
            *(f"{markdown(line[0].upper() + line[1:])}." for line in _sure(found)),
            *([f"{markdown(found.solved_told)}."] if found.solved else []),
            *(f"{markdown(line)}." for line in race_told(result)),
            *([f"It was judged by {judged.told(result, winner)}."] if beyond else []),
            *([f"{judged.on_front(result)}."] if judged.on_front(result) else []),
            "",
            *_table(
                (
                    *("trial", "search score", "fresh mean", "95% interval", "gap"),
                    *judged.headings(result),
                ),
                [(*_row(row), *judged.cells(result, row)) for row in result["finalists"]],
            ),
            "",
            footnote(result["finalists"]),
        ]
    return "\n".join(lines)


def _sure(found: Answer) -> list[str]:
    return [line for line in (found.interval_told, found.caveat_told, found.until_told) if line]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    first = (str(row["trial"]), _number(row["search_score"]))
    if row["failures"]:
        return (*first, "failed", "; ".join(row["failures"]), "")
    return (
        *first,
        _number(row["mean"]),
        ends_told(certainty_of_row(row).ends, like=row["mean"]),
        as_score(row["gap"], like=row["mean"], sign="+"),
    )


def _links(study: Study, artifacts: Mapping[str, str]) -> str:
    links = [f"[the search](/dashboard/studies/{study.search_id})"]
    if study.final_id is not None:
        links.append(f"[the final stage](/dashboard/studies/{study.final_id})")
    links += [
        f"[{markdown(name)}](/artifacts/{study.final_id}/{artifact})"
        for name, artifact in artifacts.items()
    ]
    return "See " + ", ".join(links) + "."


def _finalist(study: Study, row: Mapping[str, Any]) -> str:
    assert study.result is not None
    won = row["rank"] == study.result["winner"]
    lines = [f"## {'Winner' if won else 'Finalist'}", ""]
    if row["failures"]:
        lines.append(f"It failed in the final stage: {markdown('; '.join(row['failures']))}")
    else:
        sure = certainty_of_row(row)
        lines += [
            f"On {len(row['scores'])} fresh seeds its mean is {_number(row['mean'])}; in the "
            f"search it was {_number(row['search_score'])}.",
            "",
            f"{markdown(sure.told(like=row['mean']))}.",
            "",
            *_table(
                ("fresh seed", "score"),
                [
                    (str(seed), _number(score))
                    for seed, score in zip(row["seeds"], row["scores"], strict=True)
                ],
            ),
        ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; what its cells say is text."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(markdown, row))} |" for row in rows),
    ]


def _number(value: float) -> str:
    return as_score(value)
