"""The one way to code that a study file names as "module:Class"; whose packages it may be.

Importing runs the module, so only processes that check, run or train a study do it. Whoever only
reads a study file checks the form of the name.
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import TypeVar

from trialfleet.checking.mistakes import FieldError, shown
from trialfleet.checking.rules import Pattern
from trialfleet.escape import printable

T = TypeVar("T")
OURS = frozenset({"trialfleet", "worker", "coordinator", "migrations"})
_PART = r"[A-Za-z_][A-Za-z0-9_]{0,60}"


class Named(Pattern):
    """A name of the form "module:Class", whose module is not one of ours."""

    def check(self, value: object) -> str:
        """The name itself."""
        name = super().check(value)
        package = name.partition(":")[0].partition(".")[0]
        if package in OURS:
            raise FieldError(
                f"{shown(name)}; {package!r} is a package of Trialfleet's own, which would be"
                " imported instead of yours; must be in a module of another name"
            )
        return name


IMPORTED = Named(
    re.compile(rf"{_PART}(\.{_PART}){{0,9}}:{_PART}"),
    '"module:Class", such as "my_package.my_module:MyClass"',
)


def load(name: str, kind: type[T]) -> type[T]:
    """The class that a study file names, imported.

    Args:
        name: "module:Class".
        kind: What it has to be a subclass of.

    Raises:
        FieldError: It is one of ours, or there is no such module or class, or it is not of that
            kind; in one line, whatever the module does when it is imported.
    """
    module_name, _, attribute = IMPORTED.check(name).partition(":")
    module = _import(name, module_name)
    found = getattr(module, attribute, None)
    if found is None:
        raise FieldError(f"{shown(name)}; must be in its module, and {attribute} is not there")
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise FieldError(f"{shown(name)}; must be a subclass of {kind.__module__}.{kind.__name__}")
    return found


def _import(name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as exc:  # importing runs code that nobody here has read
        reason = printable(" ".join(str(exc).split())[:200]) or type(exc).__name__
        raise FieldError(
            f"{shown(name)}; its module cannot be imported here: {reason}; must be installed, or"
            " lie in the current folder, wherever a worker runs"
        ) from exc
