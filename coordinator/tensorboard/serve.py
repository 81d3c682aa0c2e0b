"""TensorBoard itself, on a folder of event files."""

from __future__ import annotations

import logging
from pathlib import Path

from tensorboard import program
from tensorboard.util import tb_logging

from coordinator.exposure import address
from trialfleet.errors import UsageError


def serve(logdir: Path, *, host: str, port: int, title: str) -> str:
    """Serve in a thread of this process, until it ends; the address for a browser.

    Args:
        logdir: Of the event files.
        host: Address to listen on.
        port: 0 for any free one.
        title: Of the page.

    Raises:
        UsageError: The address cannot be had.
    """
    tb_logging.get_logger().setLevel(logging.ERROR)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    board = program.TensorBoard()
    board.configure(
        logdir=str(logdir),
        host=host,
        port=port,
        window_title=title,
        reload_interval=2.0,
        # The loader in Python knows that a run began anew, and that one was removed.
        load_fast="false",
    )
    try:
        url = board.launch()
    except program.TensorBoardServerException as exc:
        reason = " ".join(f"{exc}".split())
        raise UsageError(f"cannot listen on {address(host, port)}: {reason}") from exc
    return str(url)
