"""The line of progress on a terminal: it fits, says what it waits for, and is gone when the command ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUN = """
import sys, time
from jobs.commands.progress import Display
from pipeline.driver.progress import Progress
progress = Progress()
with Display(quiet="quiet" in sys.argv) as display:
    for phase in ("starting Ray", "starting actors"):
        progress.phase = phase
        display(progress, None)
        time.sleep(0.15)
    progress.phase, progress.rows_total, progress.started = "attributing", 30000, time.monotonic() - 10
    progress.failed, progress.actors = 12, {str(n): "starting" if n % 2 else "1 in flight" for n in range(40)}
    for _ in range(3):
        progress.rows_done += 900
        display(progress, "a message of the run")
        time.sleep(0.15)
    if "interrupt" in sys.argv:
        raise KeyboardInterrupt
"""


def on_a_terminal(columns: int, *arguments: str) -> str:
    """What the program writes to a terminal of this width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        cwd=ROOT,
        env={**environment, "TERM": "xterm"},
        stdout=follower,
        stderr=follower,
    ):
        os.close(follower)
        written = b""
        try:
            while chunk := os.read(leader, 65536):
                written += chunk
        except OSError:  # the terminal was closed
            pass
    os.close(leader)
    return written.decode()


def screen(written: str) -> list[str]:
    """The lines that a terminal shows in the end: text, line ends, "up a line" and "clear this line"."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if token == "\n":
            row += 1
            lines += [""] * (row - len(lines) + 1)
        elif token == "\x1b[1A":
            row -= 1
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b") and token != "\r":
            lines[row] += token
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(columns))
    assert "starting Ray" in written
    assert max(len(line) for line in re.split(r"[\r\n]+", written)) <= columns


@pytest.mark.parametrize("arguments", [[], ["interrupt"]])
def test_no_bar_is_left_when_the_command_ends(arguments: list[str]) -> None:
    left = screen(on_a_terminal(80, *arguments))
    assert [line.strip() for line in left[:3]] == ["a message of the run"] * 3
    assert not any("attributing" in line or "starting" in line for line in left)


def test_it_names_what_it_waits_for() -> None:
    written = on_a_terminal(80)
    assert "starting Ray (up to 30 s)" in written
    assert "starting actors: each loads the network" in written
    assert re.search(r"attributing  #*-+ {1,2}900/30000 maps  .*12 failed", written)


def test_quiet_shows_nothing() -> None:
    assert screen(on_a_terminal(80, "quiet")) == []
