"""The files of deploy/monitoring, and the dashboard's questions as Prometheus takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "deploy" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads(
    (FILES / "grafana" / "trialfleet.json").read_text(encoding="utf-8")
)

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="needs prometheus and promtool: the Debian package `prometheus` has both",
)


def questions(study: str) -> dict[str, str]:
    """Each panel's expressions by title, for one study, with Grafana's own variables filled in."""
    return {
        f"{panel['title']} {target['legendFormat']}": target["expr"]
        .replace("$study", study)
        .replace("$__rate_interval", "1m")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
