#!/usr/bin/env python
"""Exit with 0 if the container's service does its work.

`healthy SERVICE`, where the service is coordinator, worker, dashboard or tensorboard. Light on
purpose (no Optuna, no PyTorch), because it runs every few seconds in every container.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from pathlib import Path

# A worker says every two seconds that it is alive; the coordinator holds a connection.
WORKER = """
    SELECT 1 FROM fleet.workers
    WHERE host = %(host)s AND ended_at IS NULL AND seen_at > now() - interval '1 minute'
"""
PAGES = {
    "dashboard": "http://127.0.0.1:8080/api/studies",
    "tensorboard": "http://127.0.0.1:6006/data/environment",
}
COORDINATOR = "SELECT count(*) FROM fleet.studies"  # a fleet's may have none yet


def main() -> None:
    """The command line."""
    service = sys.argv[1]
    if service in PAGES:
        with urllib.request.urlopen(PAGES[service], timeout=5) as answer:  # noqa: S310 - as above
            sys.exit(answer.status != 200)
    import psycopg2

    file = os.environ.get("TRIALFLEET_DATABASE_URL_FILE")
    url = (
        Path(file).read_text(encoding="utf-8-sig")
        if file
        else os.environ["TRIALFLEET_DATABASE_URL"]
    )
    try:
        connection = psycopg2.connect(url.strip(), connect_timeout=5, application_name="healthy")
        cursor = connection.cursor()
        cursor.execute(
            WORKER if service == "worker" else COORDINATOR, {"host": socket.gethostname()}
        )
        found = cursor.fetchone()
    except psycopg2.Error as exc:
        sys.exit(f"unhealthy: {type(exc).__name__}")  # the message could hold the login
    sys.exit(0 if found else f"unhealthy: no living {service} of this host")


if __name__ == "__main__":
    main()
