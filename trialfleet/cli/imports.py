"""What `import` finds, the same in every process that we start.

Our own modules come from where this package lies, whatever the current folder or PYTHONPATH hold: a
user's `worker.py` never stands in for ours. The current folder is searched last, and after it that
of the study file, where a command was given one; for environments and objectives, so that nothing
in them can stand in for an installed package either.

It imports the standard library alone, as it comes before anything else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[2]
# The study file's folder, for the processes that we start: none of them is given the file.
_BESIDE = "TRIALFLEET_STUDY_FOLDER"
_OURS = {"trialfleet", "worker", "coordinator", "migrations"}


class _OurOwn:
    """Finds our top-level packages beside `trialfleet`, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package `name`, if it is one of ours."""
        return PathFinder.find_spec(name, [str(_ROOT)]) if name in _OURS else None


def search_our_own_first() -> None:
    """Set the rule for this process; calling it again changes nothing."""
    if _OurOwn not in sys.meta_path:
        sys.meta_path.insert(0, _OurOwn)
    # `python -m` without -P puts the current folder first.
    if not sys.flags.safe_path and sys.path[0] in ("", *_current_folder()):
        del sys.path[0]
    for folder in searched():
        if folder not in sys.path:
            sys.path.append(folder)


def search_beside(file: Path) -> None:
    """Search the folder of this study file as well, here and in processes that are started here."""
    from trialfleet.checking.imports import tell_folders

    os.environ[_BESIDE] = str(file.resolve().parent)
    search_our_own_first()
    tell_folders(searched())


def searched() -> list[str]:
    """The folders of the user's that are searched, in this order."""
    beside = os.environ.get(_BESIDE)
    return list(dict.fromkeys([*_current_folder(), *([beside] if beside else [])]))


def _current_folder() -> list[str]:
    try:
        return [os.getcwd()]
    except OSError:  # the folder is gone, and nothing can be found in it
        return []
