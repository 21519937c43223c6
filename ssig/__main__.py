"""Where the command `ssig` starts, as `python -m ssig` does: its packages must be its own before they are imported.

`pipeline` and `jobs` are words that files of users have too. A `jobs.py` in a folder of PYTHONPATH is found before the
installed package, and an import then ends in a traceback that names neither.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from ssig.errors import USAGE

PACKAGES = ("pipeline", "jobs")


def main() -> None:
    """Runs the command line; where another file hides a package of it, says which and exits with 2."""
    problem = hidden()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(USAGE)
    from jobs.cli import main as command

    command()


def hidden() -> str | None:
    """What hides a package of the command, and what to do; None if nothing does, or the package is not there."""
    for name in PACKAGES:
        own = Path(__file__).resolve().parents[1] / name / "__init__.py"
        found = _origin(name)
        if own.exists() and found is not None and found.resolve() != own:
            found = found.parent if found.name == "__init__.py" else found
            return (
                f"{found} hides ssig's own package {name!r}: rename it, or take {found.parent} out of PYTHONPATH "
                "(or out of the folder that Python is started in)"
            )
    return None


def _origin(name: str) -> Path | None:
    """The file that an import of a top-level package would run, or its folder where it has none; None if not there."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return None if file is None else Path(file)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(os.path.abspath(spec.origin))
    return next((Path(os.path.abspath(folder)) for folder in spec.submodule_search_locations or ()), None)


if __name__ == "__main__":
    main()
