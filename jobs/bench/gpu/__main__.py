"""`python -m jobs.bench.gpu`: the command on a machine where ssig is not installed, from an unpacked bundle.

The options are those of `ssig bench gpu`. They are parsed without typer, which needs packages with machine code.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from jobs.bench.gpu.command import SECONDS, run
from ssig.errors import USAGE, SsigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; `--help` lists the options", file=sys.stderr)
        sys.exit(USAGE)


def main() -> None:
    """Runs the command; wrong use is one line."""
    parser = _Parser(prog="python -m jobs.bench.gpu", description="Check and measure ssig on one GPU.")
    parser.add_argument("--tiny", action="store_true", help="Run everything with toy sizes, also without a GPU.")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="Seconds that it may take.")
    parser.add_argument("--out", type=Path, default=Path("gpu"), metavar="FOLDER", help="For gpu.json and gpu.md.")
    parser.add_argument("--only", metavar="A,B", help="Run only these sections.")
    given = parser.parse_args()
    try:
        code = run(given.tiny, given.seconds, given.out, given.only)
    except SsigError as error:
        print(f"error: {error}", file=sys.stderr)
        code = USAGE
    sys.exit(code)


if __name__ == "__main__":
    main()
