"""deploy/cloud-init.yaml: its scripts, run with stand-ins for the cloud and for systemd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[2] / "deploy" / "cloud-init.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
FILES: dict[str, dict[str, Any]] = {each["path"]: each for each in CONFIG["write_files"]}
WATCH = "/usr/local/sbin/trialfleet-watch"

# What each cloud's metadata service answers once it has decided to take the machine.
ANNOUNCED = {
    "AWS": """case "$*" in
        *latest/api/token) echo token ;;
        *X-aws-ec2-metadata-token:\\ token*spot/instance-action) echo '{"action": "terminate"}' ;;
        *) exit 22 ;;
    esac""",
    "Google": 'case "$*" in *instance/preempted) echo TRUE ;; *) exit 22 ;; esac',
    "Azure": """case "$*" in
        *scheduledevents*) echo '{"Events": [{"EventType": "Preempt"}]}' ;;
        *) exit 22 ;;
    esac""",
}
QUIET = {
    "AWS": 'case "$*" in *latest/api/token) echo token ;; *) exit 22 ;; esac',
    "Google": 'case "$*" in *instance/preempted) echo FALSE ;; *) exit 22 ;; esac',
    "Azure": """case "$*" in *scheduledevents*) echo '{"Events": []}' ;; *) exit 22 ;; esac""",
    "no cloud": "exit 7",
}


class Machine:
    """A folder of programs that write down how they were called, in place of the real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "bin").mkdir()
        self.calls.touch()
        self.program("sleep", 'test "$(grep -c ^sleep "$CALLS")" -le 3')  # a few rounds
        self.program("systemctl", "true")
        (folder / "environment").write_text("IMAGE=image\nSTUDY=cartpole\nPOWEROFF=0\n")

    def program(self, name: str, body: str) -> None:
        """Put a program there."""
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"$CALLS"\n{body}\n', encoding="utf-8")
        path.chmod(0o755)

    def run(self, script: str) -> list[str]:
        """Run a script; the calls of systemctl and docker, in order."""
        script = script.replace("/etc/trialfleet/environment", str(self.folder / "environment"))
        env = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
        }
        subprocess.run(["sh", "-c", script], env=env, timeout=20, check=False)
        lines = self.calls.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if line.startswith(("systemctl", "docker"))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("cloud", list(ANNOUNCED))
def test_the_trials_are_given_back_when_the_cloud_announces_the_end(
    machine: Machine, cloud: str
) -> None:
    machine.program("curl", ANNOUNCED[cloud])
    assert machine.run(FILES[WATCH]["content"]) == ["systemctl stop trialfleet-worker@*"]


@pytest.mark.parametrize("cloud", list(QUIET))
def test_nothing_is_stopped_before(machine: Machine, cloud: str) -> None:
    machine.program("curl", QUIET[cloud])
    assert machine.run(FILES[WATCH]["content"]) == []


def test_a_machine_whose_workers_have_all_ended_is_switched_off_if_that_is_wanted(
    machine: Machine,
) -> None:
    (machine.folder / "environment").write_text("POWEROFF=1\n")
    machine.program("curl", "exit 7")
    machine.program("systemctl", 'case "$*" in *is-active*) exit 3 ;; poweroff) kill $PPID ;; esac')
    assert machine.run(FILES[WATCH]["content"])[-1] == "systemctl poweroff"


def test_a_machine_whose_workers_are_starting_again_is_not_switched_off(machine: Machine) -> None:
    (machine.folder / "environment").write_text("POWEROFF=1\n")
    machine.program("curl", "exit 7")
    machine.program(
        "systemctl",
        'case "$*" in *is-active*) exit 3 ;; list-units*) echo trialfleet-worker@1.service ;; esac',
    )
    assert "systemctl poweroff" not in machine.run(FILES[WATCH]["content"])


def test_there_is_a_worker_for_each_core(machine: Machine) -> None:
    machine.program("nproc", "echo 3")
    machine.program("docker", "true")
    [script] = [each for each in CONFIG["runcmd"] if "nproc" in each]
    assert machine.run(script) == [
        "docker pull --quiet image",
        *(f"systemctl enable --now trialfleet-worker@{n}" for n in (1, 2, 3)),
    ]


@pytest.mark.parametrize("script", [FILES[WATCH]["content"], *CONFIG["runcmd"]])
def test_a_shell_can_parse_every_script(script: str) -> None:
    subprocess.run(["sh", "-n", "-c", script], check=True)
    if shutil.which("dash"):
        subprocess.run(["dash", "-n", "-c", script], check=True)


def test_every_placeholder_that_is_to_be_filled_in_is_marked() -> None:
    text = FILE.read_text(encoding="utf-8")
    marked = re.findall(r"<(?!…)[^>]+>", text)
    assert len(marked) == 4
    assert "example.org" not in re.sub(r"<(?!…)[^>]+>", "", text)


def test_the_worker_gets_what_the_files_hold() -> None:
    unit = FILES["/etc/systemd/system/trialfleet-worker@.service"]["content"]
    for host_path, path in re.findall(r"--volume (\S+?):(\S+?):ro", unit):
        assert host_path in FILES
        assert path.startswith("/secrets/")
    assert "--env TRIALFLEET_DATABASE_URL_FILE=/secrets/worker/url" in unit
    assert (
        "sslmode=verify-full&sslrootcert=/secrets/ca/ca.pem"
        in FILES["/etc/trialfleet/url"]["content"]
    )
