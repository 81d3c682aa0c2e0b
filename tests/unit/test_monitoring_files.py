"""What deploy/monitoring ships: Prometheus takes it, and it speaks of metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from coordinator.monitoring.exposition import Figures
from tests.support.monitoring import DASHBOARD, FILES, ROOT, needs_prometheus, questions
from tests.unit.test_display import shot
from trialfleet.store.workers import NOTHING

COMPOSE = ROOT / "deploy" / "monitoring.compose.yml"
RULES = (FILES / "rules.yml").read_text(encoding="utf-8")


def exposed() -> set[str]:
    """The names of all samples that a coordinator serves."""
    figures = Figures(shot=shot(), measured=NOTHING, errors=0)
    return {sample.name for metric in figures.collect() for sample in metric.samples}


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


def named(text: str) -> set[str]:
    return set(re.findall(r"\btrialfleet_\w+", text))


@needs_prometheus
def test_prometheus_takes_configuration_and_rules() -> None:
    subprocess.run(["promtool", "check", "config", FILES / "prometheus.yml"], check=True)


@needs_prometheus
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    rules = Path(__file__).parent / "monitoring_rules.yml"
    subprocess.run(["promtool", "test", "rules", rules], check=True)
    tested = set(re.findall(r"alertname: (\w+)", rules.read_text(encoding="utf-8")))
    assert tested == set(re.findall(r"alert: (\w+)", RULES))


@needs_prometheus
def test_prometheus_can_parse_every_question_of_the_dashboard(tmp_path: Path) -> None:
    records = [
        {"record": f"panel:{number}", "expr": expr}
        for number, expr in enumerate(questions("cartpole").values())
    ]
    assert len(records) > 10
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    subprocess.run(["promtool", "check", "rules", file], check=True)


@pytest.mark.parametrize("text", [RULES, json.dumps(DASHBOARD)], ids=["rules", "dashboard"])
def test_only_metrics_are_asked_for_that_are_served(text: str) -> None:
    assert named(text)
    assert named(text) <= exposed()


def test_the_guide_lists_every_metric() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    figures = Figures(shot=shot(), measured=NOTHING, errors=0)
    listed = set(re.findall(r"^\| `(trialfleet_\w+)", guide, flags=re.MULTILINE))
    assert listed == {
        metric.name + ("_total" if metric.type == "counter" else "") for metric in figures.collect()
    }
    for alert in re.findall(r"alert: (\w+)", RULES):
        assert f"`{alert}`" in guide


def test_the_compose_file_mounts_what_is_there_and_opens_the_loopback_address_only() -> None:
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    base = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert "coordinator" in base["services"]
    mounted = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                mounted.add(ROOT / source)
            else:
                assert source in compose["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert mounted == {path for path in FILES.rglob("*") if path.is_file()}
    port = compose["services"]["coordinator"]["environment"]["TRIALFLEET_METRICS_PORT"]
    assert f"coordinator:{port}" in (FILES / "prometheus.yml").read_text(encoding="utf-8")


@pytest.mark.skipif(not has_compose(), reason="needs Docker Compose, without an engine")
def test_compose_takes_both_files_together() -> None:
    files = ["--file", "docker-compose.yml", "--file", "deploy/monitoring.compose.yml"]
    told = subprocess.run(
        ["docker", "compose", *files, "config", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    services = json.loads(told.stdout)["services"]
    assert {"prometheus", "grafana", "worker", "postgres"} <= services.keys()
    coordinator = services["coordinator"]
    assert coordinator["command"][-1] == "--stay"
    assert coordinator["environment"]["TRIALFLEET_DATABASE_URL_FILE"]  # of the file before
    assert "ports" not in coordinator
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            if volume["type"] == "bind":
                assert Path(volume["source"]).is_file()
