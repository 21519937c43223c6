"""Where the command `ssig` starts, as `python -m ssig` does: its packages must be its own before they are imported."""

from __future__ import annotations

import sys

from ssig.errors import USAGE
from ssig.shadowing import hidden


def main() -> None:
    """Runs the command line; where another file hides a package of it, says which and exits with 2."""
    problem = hidden()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(USAGE)
    from jobs.cli import main as command

    command()


if __name__ == "__main__":
    main()
