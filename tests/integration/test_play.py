"""A saved agent is shown at play, or one line says why it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from PIL import Image, ImageSequence

from tests.support.commands import command, told
from tests.support.models import balancing_agent, balancing_arrays, saved_agent
from trialfleet.cli.agent.video import film_model
from trialfleet.cli.local import winner
from trialfleet.errors import UsageError
from worker.play import film
from worker.play.files import as_gif
from worker.stop import Stop
from worker.trainers.dqn.saved import SavedAgent, play_saved

STRIP = 24  # pixels of text above the picture


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command tells pygame is for its own process."""
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, os.environ.get(name, "dummy"))


class Unseen(CartPoleEnv):
    def render(self) -> None:
        return None


class Broken(CartPoleEnv):
    def render(self) -> Any:
        raise RuntimeError("no\nscreen \x1b[31m here")


class Blind(gymnasium.Env[Any, Any]):
    observation_space = CartPoleEnv().observation_space
    action_space = CartPoleEnv().action_space


@pytest.fixture
def register() -> Iterator[Any]:
    made: list[str] = []

    def one(kind: type[gymnasium.Env[Any, Any]]) -> str:
        gymnasium.register(f"{kind.__name__}-v0", cast(Any, kind), max_episode_steps=20)
        made.append(f"{kind.__name__}-v0")
        return made[-1]

    yield one
    for name in made:
        del gymnasium.registry[name]


def test_a_gif_shows_the_episodes_that_evaluate_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returns = play_saved(balancing_arrays(), "CartPole-v1", seed=4, episodes=2)
    assert len(set(returns)) == 2
    output = tmp_path / "shown" / "agent.gif"
    agent = str(balancing_agent(tmp_path))
    assert command("play", agent, "-o", str(output), "--episodes", "2", "--seed", "4") == 0
    said = capsys.readouterr().out
    assert f"2 episodes, mean return {returns.mean():.1f}, {returns.sum():.0f} steps" in said
    with Image.open(output) as gif:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
        seconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(gif)) / 1000
    # 50 steps are a second of CartPole; the last frame of each episode stays for one.
    assert abs(seconds - (returns.sum() / 50 + 2)) < 0.2
    height, width, _ = frames[0].shape
    assert (width % 2, height % 2, width) == (0, 0, 360)
    strips = [frame[:STRIP] for frame in frames]
    assert all(np.median(strip) < 60 < strip.max() for strip in strips), "light text on dark"
    assert all(frame[STRIP:].mean() > 200 for frame in frames), "CartPole is mostly white"
    # The text and the picture change from frame to frame.
    assert (strips[0] != strips[5]).any()
    assert (frames[0][STRIP:] != frames[5][STRIP:]).any()


def test_a_long_episode_is_a_small_file() -> None:
    made = film.shoot(SavedAgent(balancing_arrays(bias=0.0)), "CartPole-v1", [3], fps=25, width=360)
    assert made.lengths == [500]
    assert 20_000 < len(as_gif(made)) < 500_000


def test_an_mp4_lasts_as_long(tmp_path: Path) -> None:
    from imageio_ffmpeg import count_frames_and_secs

    output = tmp_path / "agent.mp4"
    said = film_model(balancing_agent(tmp_path), output, seed=4)
    assert output.read_bytes()[4:8] == b"ftyp"
    frames, seconds = count_frames_and_secs(str(output))
    steps = int(said.split(" steps")[0].rsplit(maxsplit=1)[1])
    assert frames > 10
    assert abs(seconds - (steps / 50 + 1)) < 0.2


def test_too_many_frames_are_thinned_but_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "MOST_FRAMES", 9)
    agent = SavedAgent(balancing_arrays())
    made = film.shoot(agent, "CartPole-v1", [1, 2, 3, 4], fps=50, width=120)
    assert 4 <= len(made.frames) <= 9
    assert min(made.lengths) > 100
    assert [frame.last for frame in made.frames].count(True) == 4


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Unseen, "as 'rgb_array' it renders nothing"),
        (Broken, "RuntimeError: no screen \\x1b[31m here"),
        (Blind, "it has no pictures (it is made without a render_mode)"),
    ],
)
def test_an_environment_that_cannot_be_shown_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    register: Any,
    kind: type[gymnasium.Env[Any, Any]],
    says: str,
) -> None:
    path = balancing_agent(tmp_path, env=register(kind))
    assert command("play", str(path)) == 2
    line = told(capsys)
    assert f"{kind.__name__}-v0 cannot be shown" in line
    assert says in line
    assert [each.suffix for each in tmp_path.iterdir() if "agent" in each.name].count(".gif") == 0


def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("play", str(balancing_agent(tmp_path)), "-o", "agent.avi") == 2
    assert "--output: 'agent.avi'; must end with .gif or .mp4" in told(capsys)


def test_an_agent_of_another_kind_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved_agent(tmp_path, env="Acrobot-v1")
    assert command("play", str(path)) == 2
    assert "its network does not fit Acrobot-v1" in told(capsys)


@pytest.mark.parametrize(("module", "ending"), [("pygame", "gif"), ("imageio_ffmpeg", "mp4")])
def test_without_the_extra_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, ending: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module == "pygame":
        monkeypatch.delitem(sys.modules, "pygame.gfxdraw", raising=False)
    with pytest.raises(UsageError, match=module) as refused:
        film_model(balancing_agent(tmp_path), tmp_path / f"agent.{ending}")
    assert 'pip install "trialfleet[play]"' in str(refused.value)


@pytest.mark.parametrize("code", [0, 9])
def test_a_run_ends_well_whatever_the_environment_does_when_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crashing.py").write_text(
        "import os, gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "class Crashing(CartPoleEnv):\n"
        "    def render(self):\n"
        f"        os._exit({code})\n"
        "gymnasium.register('Crashing-v0', Crashing, max_episode_steps=20)\n"
    )
    path = balancing_agent(tmp_path, env="crashing:Crashing-v0")
    path.with_suffix(".gif").write_bytes(b"of another agent")
    assert winner.picture_winner(path, Stop()) == f"no GIF of the agent: exit code {code}"
    assert not path.with_suffix(".gif").exists()


def test_a_run_says_why_there_is_no_picture_and_not_how_play_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unseen.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "class Unseen(CartPoleEnv):\n"
        "    metadata = {}\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "gymnasium.register('Unseen-v0', Unseen, max_episode_steps=20)\n"
    )
    path = balancing_agent(tmp_path, env="unseen:Unseen-v0")
    said = winner.picture_winner(path, Stop())
    assert said.endswith("it has no pictures (it is made without a render_mode)")


def test_a_run_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winner, "_PATIENCE", 0.0)
    said = winner.picture_winner(balancing_agent(tmp_path), Stop())
    assert said == "no GIF of the agent: it took longer than 0 seconds"


def test_neither_playing_nor_measuring_needs_pytorch(tmp_path: Path) -> None:
    """It takes seconds to load, and a machine that shows agents need not have it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from trialfleet.cli.agent.video import film_model\n"
        "from trialfleet.cli.replay import evaluate_model\n"
        "agent = Path(sys.argv[1])\n"
        "film_model(agent, agent.with_suffix('.gif'), fps=1)\n"
        "print(evaluate_model(agent, episodes=3, seed=0))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(balancing_agent(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mean return" in ran.stdout, ran.stderr
    assert (tmp_path / "agent.gif").is_file()
