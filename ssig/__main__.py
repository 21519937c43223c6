"""The start of the command `ssig` and of `python -m ssig`: checks first that no file hides ssig's packages.

Users also name files `pipeline` and `jobs`. A `jobs.py` in a folder of PYTHONPATH is imported instead of the installed
package, and the resulting traceback names neither.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from ssig.errors import USAGE

PACKAGES = ("pipeline", "jobs")
# What the extra `run` installs, by the names that are imported.
NEEDED = (
    *("typer", "rich", "pydantic", "yaml", "braceexpand", "pyarrow", "webdataset", "obstore", "duckdb", "jinja2"),
    *("markupsafe", "matplotlib", "ray"),
)
# What only some commands need, which say so themselves.
WHERE_WANTED = {"ray"}


def main() -> None:
    """Runs the command line; where a package is hidden or not installed, says what to do and exits with 2."""
    problem = hidden() or missing()
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(USAGE)
    from jobs.cli import main as command

    command()


def hidden() -> str | None:
    """The error for a hidden package, with advice; None if no package is hidden, or none is installed."""
    for name in PACKAGES:
        package = Path(__file__).resolve().parents[1] / name / "__init__.py"
        origin = _origin(name)
        if package.exists() and origin is not None and origin.resolve() != package:
            hiding = origin.parent if origin.name == "__init__.py" else origin
            return (
                f"{hiding} hides ssig's own package {name!r}: rename it, or take {hiding.parent} out of PYTHONPATH "
                "(or out of the folder that Python is started in)"
            )
    return None


def missing() -> str | None:
    """What is not installed that the command needs, and what to type; None if all is there."""
    absent = [name for name in NEEDED if name not in sys.modules and find_spec(name) is None]
    if not set(absent) - WHERE_WANTED:
        return None
    named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more packages" if len(absent) > 3 else "")
    return f"the command ssig needs {named}: type pip install '.[run]' in the source folder of ssig"


def _origin(name: str) -> Path | None:
    """The file that an import of a top-level package would run; else its folder; None if there is no package."""
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
