"""Which algorithms a trial can train. Each is a package, found by name and imported when needed.

By convention the package has a module `params` with a class `Params`: a frozen, keyword-only
dataclass whose every field is a `trialfleet.checking.rules.knob`, declared with default and rule.
Where the study file itself declares them, `declare` there makes the class of the file's table.
The module imports no PyTorch: whoever reads a study file imports it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from trialfleet.search.knobs import SearchSpace
    from trialfleet.study.task import Task

ALGORITHMS: Mapping[str, str] = {
    "dqn": "worker.trainers.dqn",
    "function": "worker.trainers.function",  # the user's own, which task.objective names
}


class Params(Protocol):
    """An algorithm's hyperparameters: what [agent] sets."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @staticmethod
    def check(space: SearchSpace, task: Task) -> None:
        """Refuse knobs that go together neither with each other nor with the task.

        Raises:
            FieldError: At the knob's name.
        """

    @staticmethod
    def learns_by(space: SearchSpace) -> int:
        """The environment steps by which an agent of any configuration has learned something."""


def params_of(algorithm: str, table: object = None) -> type[Params]:
    """The hyperparameters of one of the ALGORITHMS, for a study file with this table of them.

    Raises:
        FieldError: The table declares what cannot be one.
    """
    module = import_module(f"{ALGORITHMS[algorithm]}.params")
    declare = getattr(module, "declare", None)
    return cast(type[Params], module.Params if declare is None else declare(table))
