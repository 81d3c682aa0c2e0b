"""The function that a study names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trialfleet.checking.imports import load_function
from trialfleet.checking.mistakes import FieldError
from trialfleet.errors import StudyFileError


def find_function(name: str) -> Callable[..., Any]:
    """`package.module:function`, imported.

    Raises:
        StudyFileError: There is none of that name here, or it may not be imported.
    """
    try:
        return load_function(name)
    except FieldError as problem:
        raise StudyFileError(f"task.objective: {problem.text}") from problem
