"""Tables on narrow terminals: rich drops columns that do not fit, without a word; lines wrap."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text


class Fitting:
    """One of two renderings of the same facts.

    Args:
        wide: Shown where it fits in whole.
        narrow: Shown elsewhere; wraps.
    """

    def __init__(self, wide: RenderableType, narrow: Text) -> None:
        self._wide, self._narrow = wide, narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Whichever fits."""
        # Measured on a terminal of any width: on this one rich would already have cut it.
        needed = Measurement.get(console, options.update(max_width=10_000), self._wide).maximum
        yield self._wide if needed <= options.max_width else self._narrow


def as_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Text:
    """A line for each row: every cell that is not empty, with its column's name."""
    return Text(
        "\n".join(
            ", ".join(
                f"{column} {cell}".strip()
                for column, cell in zip(columns, row, strict=True)
                if cell
            )
            for row in rows
        )
    )
