"""Which sources may run code.

A network named `module:callable`, and a method, a metric or a network named `./FILE.py:NAME`, are code that is run. So
only the user may name them:

    on the command line, or in a local file of the user's own    imported
    in somebody else's file, or in an object store                refused, before anything is imported

No file of a run is ever run: neither one in its folder, nor one that only a run names. An installed plug-in may be
named by anybody: who installs it trusts it.

A file belongs to its owner on the disk: a copy of somebody else's file, or an unpacked one, counts as the user's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.storage.base import Storage, is_object_url
from ssig.errors import UsageError
from ssig.registry.sources import FILE

OWN_PACKAGES = ("ssig", "pipeline", "jobs")


def owner_of(storage: Storage, name: str) -> int | None:
    """The user id that a stored file belongs to; None in an object store, where owners are unknown."""
    return None if is_object_url(storage.root) else Path(storage.root, name).stat().st_uid


def import_from_working_folder(run: str, name: str) -> None:
    """Adds the working folder to the import path, behind all installed packages, to find the user's code there.

    Does nothing if that folder is the run or lies inside it: its code came with the run, perhaps from somebody else.

    Args:
        run: the run's directory, or its URL.
        name: `module:callable`, what is to be imported; a file needs no folder.

    Raises:
        UsageError: the module is in the folder, and one of Python or of ssig hides it.
    """
    if FILE.fullmatch(name):
        return
    folder = Path.cwd()
    if is_object_url(run) or not folder.resolve().is_relative_to(Path(run).resolve()):
        _refuse_hidden(folder, name)
        sys.path.append(str(folder))


def _refuse_hidden(folder: Path, name: str) -> None:
    module, _, attribute = name.partition(":")
    top = module.partition(".")[0]
    user_module = next((path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()), None)
    if user_module is None or (top not in OWN_PACKAGES and top not in sys.stdlib_module_names):
        return
    file = getattr(sys.modules.get(top), "__file__", None)
    if file is not None and Path(file).resolve() == user_module.resolve():
        return
    whose = "ssig's own package" if top in OWN_PACKAGES else "Python's own module"
    path = user_module if user_module.name != "__init__.py" else user_module.parent
    allowed = (
        f"a module of another name: {path} is hidden by {whose} {top!r}; rename it, and give my_{module}:{attribute}"
    )
    raise UsageError("model.name", name, allowed)


def refuse_code_of_a_run(field: str, name: str, run: str) -> None:
    """Refuses `./FILE.py:NAME` whose file lies in a run: it came with the run, perhaps from somebody else.

    Args:
        field: the field that holds the name.
        name: as it is given; any other form passes.
        run: the run's directory, or its URL. Any folder with a `run.json` is a run too.

    Raises:
        UsageError: the file lies in a run.
    """
    file = FILE.fullmatch(name)
    if file is None:
        return
    path = Path(file["path"]).expanduser().resolve()
    run_folder = None if is_object_url(run) else Path(run).expanduser().resolve()
    containing_run = next(
        (folder for folder in path.parents if folder == run_folder or (folder / "run.json").is_file()), None
    )
    if containing_run is not None:
        raise UsageError(
            field, name, f"a file outside of every run; this one lies in {containing_run}: copy it, and read it first"
        )


def refuse_foreign_code(field: str, name: str, owner: int | None, advice: str) -> None:
    """Refuses a name that would run code, if the file that holds it is not the current user's.

    Args:
        field: the field that holds the name.
        name: of a network, a method or a metric.
        owner: user id that the file belongs to; None if it is unknown.
        advice: how to name it oneself.

    Raises:
        UsageError: the name is `module:callable` or `./FILE.py:NAME`, and its file somebody else's.
    """
    if owner == os.geteuid() or ":" not in name:
        return
    from ssig.models.sources import runs_code  # imports networks, which takes seconds

    if runs_code(name):
        whose = "an object store, which anybody may have written" if owner is None else f"a file of user {owner}"
        raise UsageError(field, name, f"a name that runs no code, because this one is from {whose}; {advice}")
