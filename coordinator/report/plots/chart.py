"""A plot of ours as what it shows; `plotly_drawing` and `matplotlib_drawing` draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# Told apart by people who cannot tell red from green, too, on white and on black (after Okabe and
# Ito, "Color Universal Design").
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#2f6fd0",
    "#e08a1e",
    "#12946a",
    "#d1495b",
    "#9a5fb5",
    "#58a9dc",
    "#8a94a3",
)
PALE = "#a9c6ee"  # of what is blue, but does not count in full
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, GREY)
OUTCOMES = {
    "completed": BLUE,
    "pruned": ORANGE,
    "failed": PURPLE,
    "final": GREEN,
    "given back": SKY,
    "lost": RED,
    "under way": GREY,
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line, with a band around it where `low` and `high` are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points, with error bars where `low` and `high` are given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    texts: Sequence[str] = ()  # of each point, where the mouse is
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    along_x: bool = False  # whether the error bars lie
    symbol: str = "circle"  # or "diamond", "tick", "tick-up"
    size: float = 8.0
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Lying bars at heights `y`, from `start` of length `length`."""

    name: str
    y: Sequence[float]
    start: Sequence[float]
    length: Sequence[float]
    color: str
    texts: Sequence[str] = ()
    width: float = 0.7


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A plot."""

    x: str  # what lies along x
    y: str
    layers: Sequence[Line | Points | Bars]
    note: str = ""  # how to read it, and what was left out
    x_ticks: Sequence[tuple[float, str]] = ()  # where x is no number
    y_ticks: Sequence[tuple[float, str]] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    height: int = 420  # pixels
    legend: bool = field(default=True)
