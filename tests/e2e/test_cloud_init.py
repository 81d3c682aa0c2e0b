"""What cloud-init and systemd themselves say of deploy/cloud-init.yaml."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.e2e.compose import ROOT, docker

FILE = ROOT / "deploy" / "cloud-init.yaml"


def test_cloud_init_finds_it_valid(tools: str) -> None:
    mount = ("--volume", f"{FILE}:/cloud-init.yaml:ro")
    command = ("cloud-init", "schema", "--config-file", "/cloud-init.yaml")
    assert "Valid cloud-config" in docker("run", "--rm", *mount, tools, *command)


def test_cloud_init_would_find_a_mistake(tools: str, tmp_path: Path) -> None:
    wrong = FILE.read_text(encoding="utf-8").replace("permissions:", "permission:", 1)
    (tmp_path / "wrong.yaml").write_text(wrong, encoding="utf-8")
    mount = ("--volume", f"{tmp_path / 'wrong.yaml'}:/wrong.yaml:ro")
    command = ("cloud-init", "schema", "--config-file", "/wrong.yaml")
    assert "permission" in docker("run", "--rm", *mount, tools, *command, check=False)


def test_systemd_can_read_the_units(tools: str, tmp_path: Path) -> None:
    for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))["write_files"]:
        if entry["path"].startswith("/etc/systemd/system/"):
            (tmp_path / Path(entry["path"]).name).write_text(entry["content"], encoding="utf-8")
    # The worker without Docker, under another name than the one in a container.
    plain = (ROOT / "deploy" / "systemd" / "trialfleet-worker@.service").read_text(encoding="utf-8")
    (tmp_path / "trialfleet-plain@.service").write_text(plain, encoding="utf-8")
    script = (
        "useradd --system trialfleet; install -D /bin/true /opt/trialfleet/venv/bin/trialfleet; "
        "cp /units/* /etc/systemd/system/; touch /usr/bin/docker /usr/local/sbin/trialfleet-watch; "
        "chmod +x /usr/bin/docker /usr/local/sbin/trialfleet-watch; "
        "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/docker.service; "
        "systemd-analyze verify trialfleet-worker@1.service trialfleet-plain@1.service"
        " trialfleet-watch.service && echo fine"
    )
    mount = ("--volume", f"{tmp_path}:/units:ro")
    output = docker("run", "--rm", *mount, tools, "sh", "-c", script, check=False)
    assert output.strip() == "fine"
