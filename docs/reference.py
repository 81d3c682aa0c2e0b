"""Write the tables of docs/reference.md from the code: `make reference`.

A table follows a line `<!-- table: NAME -->`. What a field means is the comment at its declaration,
what it takes is its rule. A test compares the page with what this program writes.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trialfleet.checking.rules import RULE, Rule
from trialfleet.errors import EXIT_CODES
from trialfleet.search.pruners import PRUNERS, Pruner
from trialfleet.search.pruners.named import OwnPruner
from trialfleet.search.samplers import SAMPLERS, Sampler
from trialfleet.search.samplers.named import OwnSampler
from trialfleet.settings import PREFIX, Settings
from trialfleet.study.constraints import Constraint
from trialfleet.study.final import Final
from trialfleet.study.search import Search
from trialfleet.study.spec import Spec
from trialfleet.study.stops import Stop
from trialfleet.study.task import Task
from worker.trainers.dqn.params import Params

PAGE = Path(__file__).with_name("reference.md")
_TABLE = re.compile(r"^<!-- table: (\w+) -->\n(?:\|.*\n)*", re.MULTILINE)
# Fields of a study file that are tables themselves; each has a section of its own.
_SECTIONS = {"task", "agent", "search", "constraints", "final", "stop", "enqueue"}
# Stable-Baselines3's DQN has these built in, as no argument of its constructor.
_BUILT_IN = {
    "net_arch": "`[64, 64]` (its policy's)",
    "loss": '`"huber"`, not to be changed',
    "double_q": "none: plain DQN",
    "normalize": "none: a wrapper, `VecNormalize`",
    "precision": "`fp32`",
}


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def written(page: str) -> str:
    """The page with each of its tables made anew."""
    return _TABLE.sub(lambda found: f"<!-- table: {found[1]} -->\n{TABLES[found[1]]()}", page)


def described(kind: type) -> dict[str, str]:
    """What the comments in a class say of its fields, those that it inherits included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        if base in (BaseModel, object) or base.__module__.startswith("pydantic"):
            continue
        above: list[str] = []
        for line in inspect.getsource(base).splitlines():
            if comment := re.fullmatch(r"    # (.+)", line):
                above.append(comment[1])
                continue
            if field := re.match(r"    (\w+): .*?(?:  # (.+))?$", line):
                said = " ".join(above) or field[2]
                if said:
                    found[field[1]] = said
            above = []
    return found


def _fields(
    kind: type[BaseModel], leave_out: Iterable[str] = ()
) -> Iterable[tuple[str, str, str, str]]:
    """Each field's name, and what it means, takes and is by default."""
    said = described(kind)
    for name, field in kind.model_fields.items():
        if name in leave_out:
            continue
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            continue  # the name of a sampler or pruner
        rules = [each for each in field.metadata if isinstance(each, Rule)]
        takes = _digits(rules[0].allowed) if rules else ""
        default = field.get_default(call_default_factory=True)
        yield name, said.get(name, ""), takes, _value(default)


def _model(kind: type[BaseModel], leave_out: Iterable[str] = ()) -> str:
    return _table(
        ("field", "what it sets", "takes", "default"),
        [
            (f"`{name}`", said, takes, default)
            for name, said, takes, default in _fields(kind, leave_out)
        ],
    )


def _kinds(kinds: Mapping[str, type[BaseModel]], own: type[BaseModel]) -> str:
    rows: list[tuple[str, ...]] = []
    for name, kind in [*((f'`"{name}"`', kind) for name, kind in kinds.items()), ("your own", own)]:
        options = list(_fields(kind))
        rows += [
            (name if not at else "", f"`{option}`", said, takes, default)
            for at, (option, said, takes, default) in enumerate(options)
        ] or [(name, "", "no options", "", "")]
    return _table(("`name`", "option", "what it sets", "takes", "default"), rows)


def dqn() -> str:
    """The hyperparameters of the DQN, and their defaults here and in Stable-Baselines3."""
    from stable_baselines3 import DQN

    theirs = inspect.signature(DQN).parameters
    said = described(Params)
    return _table(
        ("hyperparameter", "what it sets", "takes", "default", "Stable-Baselines3's"),
        [
            (
                f"`{field.name}`",
                said[field.name],
                _digits(field.metadata[RULE].allowed),
                _value(field.default),
                _value(kind(theirs[field.name].default))
                if field.name in theirs
                else _BUILT_IN[field.name],
            )
            for field in dataclasses.fields(Params)
            for kind in [type(getattr(Params(), field.name))]
        ],
    )


def settings() -> str:
    """What the environment sets."""
    said = described(Settings)
    rows = []
    for name, field in Settings.model_fields.items():
        bounds = {
            key: getattr(each, key)
            for each in field.metadata
            for key in ("ge", "le")
            if hasattr(each, key)
        }
        takes = _annotated(field.annotation)
        if bounds:
            ends = [f"{bounds[key]:g}" for key in ("ge", "le") if key in bounds]
            takes += f" from {' to '.join(ends)}" if len(ends) > 1 else f" of at least {ends[0]}"
        rows.append(
            (f"`{PREFIX}{name.upper()}`", said[name], _digits(takes), _value(field.default))
        )
    return _table(("variable", "what it sets", "takes", "default"), rows)


def _annotated(annotation: Any) -> str:
    """A setting's type, in words."""
    options = [each for each in get_args(annotation) or (annotation,) if each is not type(None)]
    if all(isinstance(each, str) for each in options):
        return "one of " + ", ".join(f"`{each}`" for each in options)
    words = {"bool": "`1` or `0`", "int": "a whole number", "float": "a number"}
    return words.get(options[0].__name__, "text")


def exit_codes() -> str:
    """What a command ends with."""
    return _table(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()])


def _value(value: Any) -> str:
    """A default as a study file has it."""
    match value:
        case _ if value is PydanticUndefined:
            return "must be given"
        case None | () | {}:
            return "none"
        case Sampler() | Pruner():
            return f'`"{value.name}"`'
        case bool():
            return f"`{str(value).lower()}`"
        case int():
            return f"`{value:_}`"
        case tuple():
            return f"`[{', '.join(_value(each).strip('`') for each in value)}]`"
        case float():
            return f"`{value!r}`"
    return f'`"{value}"`'


def _digits(text: str) -> str:
    """Long whole numbers with commas between their thousands."""
    return re.sub(r"\b\d{5,}\b", lambda found: f"{int(found[0]):,}", text)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        f"| {' | '.join(each.replace('|', '&#124;') for each in line)} |\n" for line in lines
    )


TABLES: Mapping[str, Callable[[], str]] = {
    "study": lambda: _model(Spec, _SECTIONS),
    "task": lambda: _model(Task),
    "dqn": dqn,
    "search": lambda: _model(Search),
    "samplers": lambda: _kinds(SAMPLERS, OwnSampler),
    "pruners": lambda: _kinds(PRUNERS, OwnPruner),
    "constraints": lambda: _model(Constraint),
    "final": lambda: _model(Final),
    "stop": lambda: _model(Stop),
    "settings": settings,
    "exit_codes": exit_codes,
}


if __name__ == "__main__":
    main()
