"""The command `ssig bench gpu`, also started as `python -m jobs.bench.gpu`. It needs neither typer nor rich."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ssig.errors import DONE, UNFINISHED, UsageError

if TYPE_CHECKING:
    from jobs.bench.gpu.session import Session

CARD = "gpu.md"
# Importing torch on a new machine counts too.
STARTED = time.monotonic()
SECONDS = 340.0
# After the last measurement was begun; then the process ends with what it has.
GRACE = 15.0


def run(tiny: bool, seconds: float, out: Path, only: str | None) -> int:
    """Runs the sections and prints the card; the exit code is 1 if a measurement failed.

    Args:
        tiny: whether all sizes are toys, also without a GPU.
        seconds: that it may take.
        out: folder for the record and the card.
        only: sections, with commas; None for all.

    Raises:
        UsageError: there is no such section, or no CUDA device.
    """
    import torch

    from jobs.bench.gpu.session import Session, chosen

    sections = chosen(only)
    if not tiny and not torch.cuda.is_available():
        raise UsageError("ssig bench gpu", "no CUDA device", "a machine with one, or --tiny to run toys on the CPU")
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    session = Session(device, tiny=tiny, seconds=seconds, out=out, started=STARTED)
    session.record |= {"tiny": tiny, "limit": seconds, "torch": torch.__version__}
    guard = threading.Timer(max(0.0, session.left()) + GRACE, lambda: _cut_off(session))
    guard.daemon = True
    guard.start()
    try:
        session.run(sections)
    finally:
        guard.cancel()
        page = finish(session)
    print(page)
    print(f"record: {out / 'gpu.json'}")
    return UNFINISHED if _errors(session) else DONE


def finish(session: Session) -> str:
    """Saves the record and its card; returns the card."""
    from jobs.bench.gpu.card import card

    session.record["elapsed"] = round(session.elapsed, 1)
    session.save()
    page = card(session.record)
    if session.out is not None:
        (session.out / CARD).write_text(page, encoding="utf-8")
    return page


def _cut_off(session: Session) -> None:
    """Ends the process, whatever its main thread waits for, with what was measured so far."""
    session.record["cut off"] = True
    print(finish(session), flush=True)
    os._exit(UNFINISHED)


def _errors(session: Session) -> bool:
    from jobs.bench.gpu.session import ERROR

    return any(
        isinstance(row, dict) and ERROR in row for rows in session.record["sections"].values() for row in rows.values()
    )
