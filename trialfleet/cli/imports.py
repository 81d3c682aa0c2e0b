"""What `import` finds, the same in every process that we start.

Our own modules come from where this package lies, whatever the current folder or PYTHONPATH hold: a
user's `worker.py` never stands in for ours. The current folder is searched last, for environments
and objectives, so that nothing in it can stand in for an installed package either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[2]
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
    try:
        here = os.getcwd()
    except OSError:  # the folder is gone, and nothing can be found in it
        return
    # `python -m` without -P puts the current folder first.
    if not sys.flags.safe_path and sys.path[0] in ("", here):
        del sys.path[0]
    if here not in sys.path:
        sys.path.append(here)
