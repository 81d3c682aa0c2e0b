"""The pictures in the documentation, of one real study: what `make docs-images` runs.

    python -m benchmarks.images

Runs studies/demo.toml in `build/images`, with a database of its own, unless the finished study is
still there; then makes docs/images from it. Needs Chromium. Start it on a machine that does nothing
else: the pictures show how fast it trained.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from benchmarks import browser, terminal
from trialfleet.postgres.waiting import wait_until
from trialfleet.settings import PREFIX

ROOT = Path(__file__).resolve().parents[1]
STUDY = "demo"
PLOTS = ("finalists", "learning-curves", "param-importances")
_RUN = ("run", str(ROOT / "studies" / f"{STUDY}.toml"), "--workers", "2")
_PATIENCE = 120.0  # seconds


class Fleet:
    """The `trialfleet` command in the folder of the study.

    Args:
        folder: Where database, logs and saved agent are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Whatever database and settings this shell has are not for the documentation.
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
        } | {"PYTHONPATH": str(ROOT)}

    def command(self, *arguments: str) -> list[str]:
        """Program and arguments."""
        return [sys.executable, "-P", "-m", "trialfleet.cli", *arguments]

    def run(self, *arguments: str) -> None:
        """Run it to its end."""
        subprocess.run(self.command(*arguments), cwd=self.folder, env=self.environment, check=True)

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[str]:
        """The address at which the command serves."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self.environment, stderr=output
            )

            def said() -> list[str]:
                output.seek(0)
                return re.findall(r": (http://\S+/)", output.read())

            try:
                if not wait_until(lambda: bool(said()) or process.poll() is not None, _PATIENCE):
                    sys.exit(f"{arguments[0]} does not answer")
                addresses = said()
                if not addresses:
                    output.seek(0)
                    sys.exit(output.read())
                yield addresses[-1]
            finally:
                process.terminate()
                process.wait(_PATIENCE)


def train(fleet: Fleet) -> str:
    """Run the study unless it has ended; a picture of its live display in mid-search."""
    kept = fleet.folder / "live.ansi"
    if not kept.is_file() or not (fleet.folder / "models" / f"{STUDY}.html").is_file():
        drawn = terminal.frames(
            fleet.command(*_RUN),
            folder=fleet.folder,
            environment=fleet.environment,
            log=fleet.folder / "run.log",
        )
        busy = [
            frame
            for frame in drawn
            if re.match(rf"(\x1b\[[0-9;]*m)*{STUDY}\S*  search", frame)
            and frame.count(" s ago") == 2
            and " idle " not in frame
        ]
        if not busy:
            sys.exit(f"the study has ended before; remove {fleet.folder} to see it run")
        kept.write_text(busy[len(busy) * 2 // 3], encoding="utf-8")
    return kept.read_text(encoding="utf-8")


def picture(
    url: str, path: Path, *, size: tuple[int, int], window: int | None = None, seconds: float = 15.0
) -> None:
    """The top of a page as a PNG.

    Args:
        url: Of the page.
        path: Of the PNG.
        size: Width and height in pixels: where the page's own parts end.
        window: Height of the browser's window, if the page needs more than is shown.
        seconds: Of the page's own clock until the picture is taken.
    """
    width, height = size
    browser.picture(url, path, size=(width, window or height), seconds=seconds)
    shrink(path, height)


def shrink(path: Path, height: int | None = None) -> None:
    """Write a PNG, or its upper part, in at most 256 colours, which is a third of the bytes."""
    with Image.open(path) as taken:
        image = taken.convert("RGB")
    image = image.crop((0, 0, image.width, height or image.height))
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "images")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args()
    folder, out = options.folder.resolve(), options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(folder)
    screen = folder / "live.html"
    screen.write_text(
        terminal.page(train(fleet), title=f"trialfleet run studies/{STUDY}.toml --workers 2"),
        encoding="utf-8",
    )
    picture(screen.as_uri(), out / "live.png", size=(1080, 195))
    saved = folder / "models"
    shutil.copyfile(saved / f"{STUDY}.gif", out / "agent.gif")
    picture((saved / f"{STUDY}.html").as_uri(), out / "report.png", size=(1200, 690))
    for name in PLOTS:
        fleet.run("plot", STUDY, name, "--out", str(out / f"{name}.png"))
        shrink(out / f"{name}.png")
    with fleet.serving("dashboard", "--port", "0") as url:
        picture(f"{url}dashboard/studies/1", out / "dashboard.png", size=(1600, 1226))
    with fleet.serving("tensorboard", STUDY, "--port", "0") as url:
        # A trial's own curves, six of them; those that bound the bands are called band/….
        page = "#scalars&tagFilter=%5E[ELM]&_smoothingWeight=0"
        curves = out / "tensorboard.png"
        picture(url + page, curves, size=(1430, 738), window=764, seconds=30.0)
    for path in sorted(out.iterdir()):
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
