"""Tables of a study file as pydantic models, and what is wrong with one as a FieldError."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from trialfleet.checking.mistakes import (
    FieldError,
    dotted,
    first,
    nearest,
    shown,
    shown_key,
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
        for key in table:
            if key not in kind.model_fields:
                raise unknown_key(key, kind.model_fields)
        # Pydantic takes its mistakes over as this field's own.
        return kind.model_validate(table)


def explain(error: ValidationError, known: Mapping[str, Collection[str]]) -> FieldError:
    """The one mistake to report of all that pydantic found.

    `known` has each key of the file, with the keys of its table if it is one.
    """
    return first([_problem(dict(found), known) for found in error.errors(include_url=False)])


def _problem(found: dict[str, Any], known: Mapping[str, Collection[str]]) -> FieldError:
    path = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        return _unknown(path, known)
    where = dotted(*map(shown_key, path))
    if found["type"] == "missing":
        return FieldError("is missing; must be given", at=where)
    cause = found.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        return cause.under(where)
    if found["type"].startswith("model_"):
        return FieldError(f"{shown(found['input'])}; must be a table", at=where)
    return FieldError(f"{shown(found['input'])}; {found['msg']}", at=where)


def _unknown(path: list[str], known: Mapping[str, Collection[str]]) -> FieldError:
    key = path[-1]
    if len(path) > 1:
        return unknown_key(key, known[path[0]]).under(path[0])
    if not nearest(key, known, likeness=0.8):
        for table, keys in known.items():
            if key in keys:
                return FieldError(
                    f"unknown key here; it belongs under [{table}]", at=key, unknown_key=True
                )
    return unknown_key(key, known)
