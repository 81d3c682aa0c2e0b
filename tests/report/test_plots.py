"""Every plot, of a study whose names mean harm: drawn in each format, as text, and thinned."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from optuna.trial import TrialState

import trialfleet.cli.main
from coordinator.report.plots import catalog, optunas
from coordinator.report.plots.catalog import PLOTS
from tests.support.told import IMAGE, SCRIPT, told
from trialfleet.errors import NothingToShowError, UsageError

ONE = told()
LONG = told(trials=4_000)
SEVERAL = told(objectives=3)
OURS = [name for name, plot in PLOTS.items() if plot.ours is not None]
PAIR = ["gamma", "learning_rate"]
OF_ONE = [name for name, plot in PLOTS.items() if catalog.applies(plot, ONE)]


def text_in(svg: Path) -> str:
    """All that a reader sees; the file must be well-formed."""
    return "\n".join(ElementTree.parse(svg).getroot().itertext())


@pytest.mark.parametrize("name", OF_ONE)
def test_every_plot_can_be_drawn_and_shows_names_as_text(name: str) -> None:
    figure, _ = catalog.figure(name, ONE)
    drawn = figure.to_json()
    assert len(figure.data) > 0
    # plotly reads texts as HTML.
    assert "<script" not in drawn
    assert "<img" not in drawn
    # JSON escapes what HTML would: look for both ways of writing the same.
    assert "\\u003cscript" not in drawn
    assert "\\u003cimg" not in drawn


@pytest.mark.parametrize("name", ["timeline", "optimization-history", "slice", "edf"])
def test_plots_of_trials_that_violate_a_constraint(name: str) -> None:
    study = told()
    for trial in study.search[::2]:
        trial.system_attrs["constraints"] = [0.5]
    figure, _ = catalog.figure(name, study)
    assert len(figure.data) > 0


@pytest.mark.parametrize("name", ["pareto-front", "hypervolume-history", "optimization-history"])
def test_plots_of_several_objectives(name: str) -> None:
    figure, _ = catalog.figure(name, SEVERAL)
    assert len(figure.data) > 0
    if name == "pareto-front":
        with pytest.raises(UsageError, match="several objectives"):
            catalog.figure(name, ONE)


@pytest.mark.parametrize("name", [*OURS, "timeline", "param-importances"])
def test_plots_are_pictures_without_a_browser(name: str, tmp_path: Path) -> None:
    catalog.write(name, ONE, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["contour", "rank"])
def test_pairs_of_parameters(name: str, tmp_path: Path) -> None:
    catalog.write(name, ONE, tmp_path / "plot.SVG", PAIR)
    seen = text_in(tmp_path / "plot.SVG")
    assert all(param in seen for param in PAIR)
    with pytest.raises(UsageError, match="pairs"):
        catalog.write(name, ONE, tmp_path / "one.svg", ["gamma"])
    assert [path.name for path in tmp_path.iterdir()] == ["plot.SVG"]


def test_pictures_show_names_to_the_letter(tmp_path: Path) -> None:
    catalog.write("slice", ONE, tmp_path / "slice.svg")
    seen = text_in(tmp_path / "slice.svg")
    for each in (SCRIPT, IMAGE, "plain $x$"):
        assert each in seen
    catalog.write("slice", ONE, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "slice.svg").read_bytes()


def test_a_page_of_a_plot_opens_offline(tmp_path: Path) -> None:
    catalog.write("workers", told(name=SCRIPT), tmp_path / "plot.html")
    page = (tmp_path / "plot.html").read_text(encoding="utf-8")
    assert "<script src" not in page
    assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "plotly.js v" in page


@pytest.mark.parametrize("name", optunas.LIMITS)
def test_thousands_of_trials_are_thinned(name: str) -> None:
    data = LONG
    trials = [t for t in data.search if name in ("timeline", "intermediate-values") or t.values]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    drawn, note = optunas.thinned(name, data, complete, panels=4)
    assert len(drawn) <= optunas.LIMITS[name] < 4_000
    assert f"of {len(complete):,} trials" in note or len(drawn) == len(complete)
    assert drawn == sorted(drawn, key=lambda trial: trial.number)
    if name != "timeline":
        # The best are never left out.
        best = {trial.number for trial in data.complete[:15]}
        assert best <= {trial.number for trial in drawn}


def test_a_thinned_plot_keeps_the_trials_numbers() -> None:
    data = LONG
    figure, note = catalog.figure("optimization-history", data)
    points = {
        (x, y)
        for trace in figure.data
        if trace.mode == "markers"
        for x, y in zip(trace.x, trace.y, strict=True)
    }
    values = {(trial.number, trial.values[0]) for trial in data.search if trial.values}
    assert len(points) <= optunas.LIMITS["optimization-history"]
    assert points <= values
    best = data.complete[0]
    assert (best.number, best.values[0]) in points
    assert "2,000 of 2,500 trials" in note


def test_hundreds_of_workers_are_thinned_but_losses_are_not() -> None:
    data = told(trials=1_600, workers=200)
    figure, note = catalog.figure("workers", data)
    assert "40 of 200 workers, those with lost attempts first" in note
    lost = next(trace for trace in figure.data if trace.name == "lost")
    assert len(lost.x) == sum(attempt.outcome == "lost" for attempt in data.attempts)


def test_a_lost_attempt_is_wide_enough_to_be_seen() -> None:
    data = told(trials=1_600, workers=50)
    figure, _ = catalog.figure("workers", data)
    lost = next(trace for trace in figure.data if trace.name == "lost")
    span = max(
        end for trace in figure.data for end in map(sum, zip(trace.base, trace.x, strict=True))
    )
    assert min(lost.x) > span / 500


@pytest.mark.parametrize(
    "name", ["finalists", "search-vs-fresh", "learning-curves", "optimization-history", "timeline"]
)
def test_a_study_that_has_only_begun_has_nothing_to_show_yet(name: str) -> None:
    data = told(trials=0, stage="search")
    with pytest.raises(NothingToShowError, match=r"yet|not ended"):
        catalog.figure(name, data)


@pytest.mark.parametrize(
    "name", [each for each in OF_ONE if each not in ("workers", "budget", "timeline")]
)
def test_nobody_waits_for_a_plot_of_a_study_that_failed(name: str) -> None:
    """Nothing more will come of it, so neither message nor remedy asks for patience."""
    with pytest.raises(NothingToShowError) as refused:
        catalog.figure(name, told(trials=0, stage="failed"))
    assert "yet" not in str(refused.value)
    assert "has failed" in str(refused.value)
    assert "wait" not in refused.value.remedy


def test_a_running_study_shows_what_there_is() -> None:
    data = told(stage="search")
    figure, note = catalog.figure("learning-curves", data)
    assert "best trials of the search" in note
    assert [trace.name for trace in figure.data if trace.name] == [
        f"trial {trial.number}" for trial in data.complete[:5]
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["told", "nonsense", "-o", "x.png"], ["no plot is called 'nonsense'", *PLOTS]),
        (["told", "slice", "-o", "x.pdf"], ["--out", ".html, .png, .svg"]),
    ],
)
def test_bad_arguments_end_in_one_line(
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["trialfleet", "plot", *arguments])
    with pytest.raises(SystemExit) as ended:
        trialfleet.cli.main.main()
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert all(word in line for word in words)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("slice", ["nothing"], "does not search 'nothing'; it searches learning_rate, gamma"),
        ("edf", ["gamma"], "edf shows no single parameter; these do: param-importances"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, params: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        catalog.figure(name, ONE, params)


def test_the_help_has_every_name() -> None:
    from trialfleet.cli.commands.report.plot import NAMES

    assert sorted(NAMES) == sorted(PLOTS)
