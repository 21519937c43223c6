"""`python -m jobs.bench.gpu`: the command on a machine where ssig is not installed, from an unpacked bundle."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from jobs.bench.gpu.command import gpu
from ssig.errors import USAGE, SsigError


def main() -> None:
    """Runs the command; wrong use is one line."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command()(gpu)
    try:
        code = app(sys.argv[1:], prog_name="python -m jobs.bench.gpu", standalone_mode=False)
    except (SsigError, TyperException) as error:
        print(f"error: {error}", file=sys.stderr)
        code = USAGE
    sys.exit(code)


if __name__ == "__main__":
    main()
