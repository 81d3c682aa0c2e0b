"""The report's page: the answer first, everything as text, for a study at any stage."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.certainty import certainty
from coordinator.report import data as reading
from coordinator.report.data import StudyData
from coordinator.report.difference import compare
from coordinator.report.page import render
from tests.support import browser
from tests.support.told import IMAGE, SCRIPT, told
from trialfleet.store import studies
from trialfleet.study.file import load

DONE = told(name=f"told {IMAGE}")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done() -> str:
    return render.page(DONE)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without plots, which take seconds, for tests that look at the words."""
    monkeypatch.setattr(render, "SECTIONS", dict.fromkeys(render.SECTIONS, ()))


def plain(page: str) -> str:
    """What a reader sees of the page, apart from the plots, in one line."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def ours(page: str) -> str:
    """The page without plotly's own code."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page, count=1, flags=re.DOTALL)


def test_it_leads_with_the_answer_and_how_sure_one_can_be(done: str) -> None:
    seen, winner = plain(done), DONE.winner
    assert winner is not None
    low, high = winner["interval"]
    assert f"{winner['mean']:.1f} 95% interval {low:.1f} … {high:.1f}" in seen
    assert "whatever the distribution of returns between 0 and 500, for all 3 finalists" in seen
    assert "a failure too rare to be among 6 seeds" in seen  # what Student's t would leave out
    assert (
        "The finalists' intervals hold whatever the distribution of returns" in seen
    )  # below the table
    assert f"The search had promised {winner['search_score']:.1f}" in seen
    assert "cannot be told apart from the runner-up" in seen
    assert "corrected for the 3 pairs among finalists" in seen
    assert "so its mean is a little optimistic still" in seen
    assert seen.index("95% interval") < seen.index("The search") < seen.index("Compute")


def test_it_has_all_that_was_asked_and_found(done: str) -> None:
    seen = plain(done)
    for each in (
        "3 trials failed",
        f"no such thing: {SCRIPT}",
        f"Traceback {IMAGE}",
        f"median at step 500: 12.3 < 40.1 {IMAGE}",
        "3 pruned trials trained to the end, 0 of them among the best 2",
        "6 trials were ended early: 6 at step 500",
        "upper bound of what was trained twice",
        f"$ trialfleet replay told {IMAGE} {DONE.winner['trial'] if DONE.winner else ''}",
        "learning_rate = { low = 0.0001, high = 0.01, log = true }",
        "torch 2.13.0",
        "x86_64",
        f"host {IMAGE}",
    ):
        assert each in seen, each
    for each in ("Search space", "Tuning budget", "Tuning seeds", "Test seeds", "Hardware"):
        assert each in seen
    assert "101, 103, 105" in seen


def test_every_name_is_text(done: str) -> None:
    for each in ("<script>alert", "<img src=x", "onerror=alert(2)>\n<"):
        assert each not in done
    assert html.escape(SCRIPT) in done


def test_it_asks_no_other_machine_for_anything(done: str) -> None:
    assert done.count("plotly.js v") == 1
    assert re.findall(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", ours(done)) == []
    assert "url(" not in ours(done)
    assert "@import" not in ours(done)


def test_a_browser_without_a_network_shows_the_study(done: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(done, encoding="utf-8")
    winner = DONE.winner
    assert winner is not None
    seen = browser.page(
        file.as_uri(),
        f"{winner['mean']:.1f}",
        f"told {IMAGE}",
        "environment steps of each agent",  # drawn by plotly
        "worker-seconds",
        offline=True,
    )
    assert '<img src="x"' not in seen
    assert seen.count('class="main-svg"') > 10
    assert all(
        f'id="plot-{name}"' in seen
        for names in render.SECTIONS.values()
        for name in names
        if name not in ("pareto-front", "hypervolume-history")
    )


def test_the_page_of_a_failed_study_promises_nothing() -> None:
    seen = plain(render.page(told(trials=0, stage="failed")))
    assert "Plots that there is nothing for" in seen
    assert "No trial has finished." in seen
    assert "yet" not in re.findall(r"\w+", seen)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (told(trials=0, stage="search"), ["still searching", "No trial has been completed"]),
        (
            told(trials=8, stage="search"),
            ["No answer yet: the search goes on", "best search score so far"],
        ),
    ],
    ids=["empty", "search"],
)
def test_a_study_that_is_not_done_shows_what_there_is(data: StudyData, words: list[str]) -> None:
    page = render.page(data)
    assert "<script>alert" not in page
    seen = plain(page)
    assert all(each in seen for each in words), seen[:2000]
    assert "Plots that there is nothing for yet" in seen
    assert "The finalists on fresh seeds" in seen


@pytest.mark.usefixtures("quick")
def test_no_table_of_a_race_is_wider_than_a_screen_of_1280_pixels(tmp_path: Path) -> None:
    """With as many hyperparameters and as long a reason as studies/cartpole.toml has."""
    data = told(race=True)
    spec = load(ROOT / "studies" / "cartpole.toml")
    data = replace(data, study=replace(data.study, stored=spec.to_json()))
    for row in data.finalists:
        row["params"] = dict.fromkeys(spec.agent.searched(), 0.0009573)
        row["why"] = "each of its seeds reached the highest score, but it learns more slowly"
    measure = """<script>
    document.querySelectorAll("details").forEach(each => each.open = true);
    const wide = [...document.querySelectorAll(".scroll")].filter(
        each => each.scrollWidth > each.clientWidth).map(each => each.querySelector("table").id);
    document.body.append(`measured at ${innerWidth}: [${wide}]`);
    </script></body>"""
    file = tmp_path / "report.html"
    file.write_text(render.page(data).replace("</body>", measure), encoding="utf-8")
    assert "measured at 1280: []" in browser.page(
        file.as_uri(), "measured at", offline=True, size=(1280, 2000)
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (told(stage="final"), ["the finalists are being trained on fresh seeds"]),
        (told(stage="failed"), ["The study failed", f"no more {SCRIPT}"]),
        (told(objectives=2), ["95% interval"]),
    ],
    ids=["final", "failed", "several"],
)
def test_a_study_at_any_stage_has_a_page(data: StudyData, words: list[str]) -> None:
    page = render.page(data)
    assert "<script>alert" not in page
    seen = plain(page)
    assert all(each in seen for each in words), seen[:2000]


@pytest.mark.usefixtures("quick")
def test_intervals_of_an_earlier_version_are_called_what_they_are() -> None:
    data = told(race=True)
    assert data.study.result is not None
    for row in (*data.study.result["finalists"], data.study.result["confirmation"]):
        for key in ("method", "within", "together"):
            row.pop(f"interval_{key}")
        row.pop("student")
    seen = plain(render.page(data))
    assert "370.0 95% interval" in seen
    assert "percentile bootstrap of an earlier version: too short" in seen
    assert "Intervals are percentile bootstraps of an earlier version" in seen


@pytest.mark.usefixtures("quick")
def test_the_runner_up_was_picked_so_its_p_is_of_all_pairs() -> None:
    data = told()
    winner, second = data.finalists[:2]
    second["scores"] = [score - 50 for score in second["scores"]]
    p = 3 * compare(winner["scores"], second["scores"]).p
    assert 0 < p < 1
    assert f"(p = {p:.2g}, corrected for the 3 pairs among finalists)" in plain(render.page(data))


@pytest.mark.usefixtures("quick")
def test_without_an_interval_the_page_says_so() -> None:
    data = told()
    assert data.study.result is not None
    for row in data.study.result["finalists"]:
        row |= certainty(row["scores"][:3], None, together=3).as_row()
        row["scores"] = row["scores"][:3]
    seen = plain(render.page(data))
    assert "no interval" in seen
    assert "3 seeds are too few for Student's t" in seen
    assert "There are no intervals" in seen


@pytest.mark.usefixtures("quick")
def test_a_finalist_that_failed_is_shown_with_its_reason() -> None:
    data = told()
    assert data.study.result is not None
    rows = data.study.result["finalists"]
    failed = {key: rows[-1][key] for key in ("rank", "trial", "search_score", "params")}
    result = {**data.study.result, "finalists": [*rows[:-1], {**failed, "failures": [SCRIPT]}]}
    seen = plain(render.page(replace(data, study=replace(data.study, result=result))))
    assert f"failed {SCRIPT}" in seen


@pytest.mark.usefixtures("quick")
def test_an_infeasible_finalist_comes_after_the_winner_and_is_no_runner_up() -> None:
    data = told()
    assert data.study.result is not None
    best, second, *_ = data.finalists
    rows = [{**best, "excess": 0.5}, {**second, "excess": 0.0}]
    result = {**data.study.result, "finalists": rows, "winner": second["rank"]}
    data = replace(data, study=replace(data.study, result=result))
    assert [row["rank"] for row in data.finalists] == [second["rank"], best["rank"]]
    assert "runner-up" not in plain(render.page(data))


@pytest.mark.usefixtures("quick")
def test_after_a_race_the_confirmation_is_the_answer_and_its_own_figures_stand_below() -> None:
    data = told(race=True)
    seen, winner = plain(render.page(data)), data.winner
    assert winner is not None
    answer, race = seen.split("The race", 1)
    assert (
        f"Trial {winner['trial']}, trained anew on 10 seeds that played no part in choosing it"
        in seen
    )
    assert "370.0 95% interval" in answer
    assert "interquartile mean 400.0" in answer
    assert (
        "9 of 10 seeds solve it (mean return of 390 or more): at least 60.5% of all seeds do"
        " (exact, 95%)"
    ) in answer
    assert "optimistic" not in answer
    assert f"{winner['mean']:.1f}" not in answer
    assert "18 seeds were trained of at most 36" in race
    assert f"{winner['mean']:.1f}" in race
    assert "wins after block 2: the only one left" in race


@pytest.mark.usefixtures("quick")
def test_the_agent_is_shown_where_there_is_a_picture_of_it(tmp_path: Path) -> None:
    (tmp_path / "no.gif").write_bytes(b"<svg onload=alert(3)>")
    (tmp_path / "agent.gif").write_bytes(b"GIF89a-and-so-on")
    places = [tmp_path / name for name in ("none.gif", "no.gif", "agent.gif")]
    assert 'src="data:image/gif;base64,R0lGODlhLWFuZC1zby1vbg=="' in render.page(
        told(), pictures=places
    )
    assert "data:image" not in ours(render.page(told(), pictures=places[:2]))


@pytest.mark.usefixtures("quick")
def test_the_end_of_a_run_never_fails_for_its_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import trialfleet.cli.report as ending

    monkeypatch.setattr(studies, "find", lambda *_: DONE.study)
    monkeypatch.setattr(reading, "read", lambda *_: DONE)
    database, model = object(), tmp_path / "told.safetensors"

    def said() -> str:
        return ending.report_beside(database, "told", model)  # type: ignore[arg-type]

    assert said() == f"saved: {tmp_path / 'told.html'}"
    assert (tmp_path / "told.html").is_file()
    (tmp_path / "told.html").unlink()
    monkeypatch.setattr(render, "page", lambda *_, **__: 1 / 0)
    assert said() == "no report: ZeroDivisionError: division by zero"
    monkeypatch.delitem(sys.modules, render.__name__)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delattr("coordinator.report.page.render")
    assert said() == 'no report: jinja2 is not installed: pip install "trialfleet[report]"'
    assert list(tmp_path.iterdir()) == []
