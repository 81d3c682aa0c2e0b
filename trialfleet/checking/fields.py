"""Tables of a study file as pydantic models, and what is wrong with one as a FieldError."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trialfleet.checking.mistakes import (
    FieldError,
    Gathering,
    dotted,
    nearest,
    shown,
    shown_key,
    together,
    unknown_key,
)
from trialfleet.checking.rules import Rule


class Strict(BaseModel):
    """A table of the study file: its keys are known, its values never change.

    Its fields are annotated with rules. Pydantic's own constraints would name only the bound that a
    value crosses, not what the field takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Kind = TypeVar("Kind", bound=Strict)


def by_name(*kinds: type[Kind]) -> dict[str, type[Kind]]:
    """The kinds by their field `name`."""
    return {kind.model_fields["name"].default: kind for kind in kinds}


@dataclass(frozen=True, eq=False)
class Named(Rule):
    """The name of one of several kinds, or a table with the name and the kind's options."""

    kinds: Mapping[str, type[Strict]]
    own: type[Strict] | None = None  # what a name such as "module:Class" is

    @property
    def allowed(self) -> str:
        """The names."""
        names = "one of " + ", ".join(f'"{name}"' for name in self.kinds)
        return names + (' or your own "module:Class"' if self.own else "")

    def check(self, value: object) -> Strict:
        """The kind with its options."""
        if isinstance(value, Strict):
            value = value.model_dump(exclude_none=True)
        table = {"name": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            raise self.refusal(value, ', or { name = "…", options }')
        if "name" not in table:
            raise FieldError(f"is missing; must be {self.allowed}", at="name")
        name = table["name"]
        kind = self.kinds.get(name) if isinstance(name, str) else None
        if kind is None and isinstance(name, str) and ":" in name:
            kind = self.own
        if kind is None:
            refusal = self.refusal(name, nearest(name, self.kinds))
            raise refusal.under("name") if table is value else refusal
        with Gathering() as gathering:
            for key in table:
                if key not in kind.model_fields:
                    gathering.add(unknown_key(key, kind.model_fields))
            try:
                return kind.model_validate(
                    {key: each for key, each in table.items() if key in kind.model_fields}
                )
            except ValidationError as error:
                gathering.add(explain(error, {}))
        raise AssertionError("what was gathered is raised")


def explain(error: ValidationError, known: Mapping[str, Collection[str]]) -> FieldError:
    """All mistakes that pydantic found, in the order in which they are to be read.

    `known` has each key of the file, with the keys of its table if it is one.
    """
    found = [
        each
        for problem in error.errors(include_url=False)
        for each in _problem(dict(problem), known).each
    ]
    # A key that is misspelled is not missing as well.
    meant = [each.text for each in found if each.unknown_key]
    return together(
        [
            each
            for each in found
            if not (
                each.text.startswith("is missing")
                and any(f"mean {each.at.rpartition('.')[2]}?" in text for text in meant)
            )
        ]
    )


def _problem(found: dict[str, Any], known: Mapping[str, Collection[str]]) -> FieldError:
    path = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        return _unknown(path, known)
    where = dotted(*map(shown_key, path))
    if found["type"] == "missing":
        return FieldError("is missing; must be given", at=where)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return together([_placed(each, known) for each in cause.under(where).each])
    if found["type"].startswith("model_"):
        return FieldError(f"{shown(found['input'])}; must be a table", at=where)
    return FieldError(f"{shown(found['input'])}; {found['msg']}", at=where)


def _placed(mistake: FieldError, known: Mapping[str, Collection[str]]) -> FieldError:
    """The mistake; of an unknown key of a table, where it belongs."""
    table, _, key = mistake.at.partition(".")
    if mistake.unknown_key and known.get(table) and re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return _unknown([table, key], known)
    return mistake


def _unknown(path: list[str], known: Mapping[str, Collection[str]]) -> FieldError:
    *above, key = path
    table = above[0] if above else ""
    here = known.get(table, ()) if above else known
    at = dotted(*map(shown_key, path))
    if key in ELSEWHERE:
        return FieldError(f"unknown key; {ELSEWHERE[key]}", at=at, unknown_key=True)
    places = [f"under [{name}]" for name, keys in known.items() if key in keys and name != table]
    if above and key in known and not known[key]:
        places.insert(0, "at the top, above the first table")
    if not places:
        return unknown_key(key, here).under(table)
    close = nearest(key, here, likeness=0.8)
    return FieldError(
        f"unknown key here; it belongs {' or '.join(places)}{close}", at=at, unknown_key=True
    )


# What other tools call what a study file calls otherwise.
ELSEWHERE = {
    "direction": 'search.objective has it, such as "score:max"',
    "env_id": "task.env names the environment",
    "env_wrapper": "task.wrappers has the wrappers",
    "eval_freq": "task.eval_every is the number of steps between two evaluations",
    "lr": "agent.learning_rate is the learning rate",
    "n_envs": "it must be left out, as each agent has one environment",
    "n_eval_episodes": "task.eval_episodes is the number of episodes of an evaluation",
    "n_timesteps": "task.train_steps is for how many steps each agent trains",
    "n_trials": "search.trials is the number of trials",
    "policy": "it must be left out, as agent.net_arch alone says what network learns",
    "policy_kwargs": "agent.net_arch has the widths of the network's layers, such as [256, 256]",
    "total_timesteps": "task.train_steps is for how many steps each agent trains",
}
