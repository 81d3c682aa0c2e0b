"""Pictures of a study's dashboard and TensorBoard, as the documentation shows them.

    python -m benchmarks.images cartpole --out docs/images

Works on the database that the settings name, or the embedded one of the current folder. Starts
`trialfleet dashboard` and `trialfleet tensorboard` on free ports, and stops them again.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import browser
from trialfleet.cli.connect import open_database
from trialfleet.postgres.waiting import wait_until
from trialfleet.settings import load_settings
from trialfleet.store import studies

_PATIENCE = 120.0  # seconds


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """The address at which `trialfleet COMMAND` serves."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "trialfleet.cli", *command], stderr=output
        )

        def said() -> list[str]:
            output.seek(0)
            return re.findall(r": (http://\S+/)", output.read())

        try:
            if not wait_until(lambda: bool(said()) or process.poll() is not None, _PATIENCE):
                sys.exit(f"{command[0]} does not answer")
            addresses = said()
            if not addresses:
                output.seek(0)
                sys.exit(output.read())
            yield addresses[-1]
        finally:
            process.terminate()
            process.wait(_PATIENCE)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with open_database(load_settings(), application="images") as database:
        study = studies.find(database, options.study)
        with serving("dashboard", "--port", "0") as url:
            about = f"{url}dashboard/studies/{study.search_id}"
            browser.picture(about, options.out / "dashboard.png", size=(1600, 1400))
            browser.picture(f"{about}/note", options.out / "dashboard-note.png")
        with (
            tempfile.TemporaryDirectory() as logdir,
            serving("tensorboard", study.name, "--port", "0", "--logdir", logdir) as url,
        ):
            for page, name in {
                "?tagFilter=Score&smoothing=0#timeseries": "tensorboard",
                "#custom_scalars": "tensorboard-bands",
                "#hparams": "tensorboard-hparams",
            }.items():
                browser.picture(url + page, options.out / f"{name}.png", seconds=30.0)
    print(f"pictures in {options.out}")


if __name__ == "__main__":
    main()
