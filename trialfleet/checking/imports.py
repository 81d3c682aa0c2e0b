"""The one way to code that a study file names as "module:Class"; whose packages it may be.

Importing runs the module, so only processes that check, run or train a study do it. Whoever only
reads a study file checks the form of the name. Who operates a worker may say which packages it
imports (`allow`); else it imports what is installed, as whoever may create a study may have it do.
"""

from __future__ import annotations

import importlib
import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from trialfleet.checking.mistakes import FieldError, shown
from trialfleet.checking.rules import Pattern
from trialfleet.escape import printable

T = TypeVar("T")
OURS = frozenset({"trialfleet", "worker", "coordinator", "migrations"})
_PART = r"[A-Za-z_][A-Za-z0-9_]{0,60}"
_allowed: Sequence[str] | None = None  # None: every package
_folders: Sequence[str] = ()


def allow(packages: Sequence[str] | None) -> None:
    """Say for this process which packages and modules it may import for a study; None: any."""
    global _allowed  # it is one setting of the process, set at the edge
    _allowed = packages


def tell_folders(folders: Sequence[str]) -> None:
    """Say for this process in which folders of the user's modules are searched."""
    global _folders  # likewise
    _folders = folders


class Named(Pattern):
    """A name of the form "module:Class", whose module is not one of ours."""

    def check(self, value: object) -> str:
        """The name itself."""
        name = super().check(value)
        refuse_ours(name)
        return name


def _searched() -> str:
    """Which folders of the user's are, where somebody has said so."""
    folders = " or ".join(map(printable, _folders))
    return f": here {folders}, on other machines the one that a worker starts in" if folders else ""


def refuse_ours(name: str) -> None:
    """Refuse a name "module:Something" whose module would be one of ours.

    Raises:
        FieldError: It is.
    """
    package = name.partition(":")[0].partition(".")[0]
    if package in OURS:
        raise FieldError(
            f"{shown(name)}; {package!r} is a package of Trialfleet's own, which would be"
            " imported instead of yours; must be in a module of another name"
        )


IMPORTED = Named(
    re.compile(rf"{_PART}(\.{_PART}){{0,9}}:{_PART}"),
    '"module:Class", such as "my_package.my_module:MyClass"',
)


FUNCTION = Named(IMPORTED.form, '"module:function", such as "my_package.my_module:train"')


def load(name: str, kind: type[T]) -> type[T]:
    """The class that a study file names, imported.

    Args:
        name: "module:Class".
        kind: What it has to be a subclass of.

    Raises:
        FieldError: It is one of ours, or there is no such module or class, or it is not of that
            kind; in one line, whatever the module does when it is imported.
    """
    found = _found(name)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise FieldError(f"{shown(name)}; must be a subclass of {kind.__module__}.{kind.__name__}")
    return found


def load_function(name: str) -> Callable[..., Any]:
    """The function that a study file names, imported.

    Args:
        name: "module:function".

    Raises:
        FieldError: As `load` does.
    """
    found = _found(name)
    if not callable(found):
        raise FieldError(f"{shown(name)}; must be a function")
    result: Callable[..., Any] = found
    return result


def told(exc: BaseException) -> str:
    """An exception of others' code in one line: what, and the last line of the user's own.

    What is neither ours nor lies where packages are installed is the user's.
    """
    text = " ".join(str(exc).split())[:200]
    if isinstance(exc, SystemExit):
        text = f"it calls sys.exit({text})"
    elif not (text and isinstance(exc, ImportError)):  # those say so themselves
        text = f"{type(exc).__name__}: {text}".removesuffix(": ")
    others = [Path(__file__).parents[2] / each for each in OURS]
    others.append(Path(sysconfig.get_path("stdlib")))
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        path = Path(frame.filename)
        installed = {"site-packages", "dist-packages"} & {*path.parts}
        if path.is_file() and not installed and not any(map(path.is_relative_to, others)):
            text += f" ({path.name}, line {frame.lineno}, in {frame.name})"
            break
    return printable(text)


def _found(name: str) -> Any:
    attribute = IMPORTED.check(name).partition(":")[2]
    found = getattr(import_named(name), attribute, None)
    if found is None:
        raise FieldError(f"{shown(name)}; must be in its module, and {attribute} is not there")
    return found


def import_named(name: str) -> ModuleType:
    """The module of a name "module:Something".

    Raises:
        FieldError: It is one of ours, may not be imported here, or cannot be.
    """
    refuse_ours(name)
    module = name.partition(":")[0]
    if _allowed is not None and not any(
        module == each or module.startswith(f"{each}.") for each in _allowed
    ):
        packages = ", ".join(_allowed) or "none"
        raise FieldError(
            f"{shown(name)}; its module may not be imported here; must be one of those that"
            f" TRIALFLEET_ALLOW_IMPORT or --allow-import names: {packages}"
        )
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as exc:  # importing runs code that nobody here has read
        missing = isinstance(exc, ModuleNotFoundError)
        must = f"be installed, or lie in a folder that is searched{_searched()}"
        raise FieldError(
            f"{shown(name)}; its module cannot be imported here: {told(exc)}; must"
            f" {must if missing else 'come without an exception'}"
        ) from exc
