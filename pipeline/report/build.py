"""Writes the report of a run into its folder, and tells whether the one that is there is still true."""

from __future__ import annotations

import json

from pipeline.jsontext import to_json
from pipeline.report.contents import REPORT_VERSION, as_json, contents
from pipeline.report.render import html, markdown
from pipeline.report.tables import tables
from pipeline.results import open_run
from pipeline.storage import open_storage
from ssig.errors import UsageError

_INDEX, _NUMBERS = "report/index.html", "report/report.json"


def build_report(run: str) -> str:
    """Makes RUN/report from the files of the run, and returns the path or URL of its `index.html`.

    Raises:
        UsageError: there is no run, it was never configured, or its files cannot be read.
    """
    opened = open_run(run)
    if not opened.config:
        raise UsageError("run", run, "a run with at least one configured method")
    report = contents(opened)
    storage = open_storage(run)
    storage.put(_INDEX, html(opened, report).encode())
    storage.put("report/report.md", markdown(report).encode())
    for name, text in tables(report).items():
        storage.put(f"report/tables/{name}", text.encode())
    # The digest goes last: it vouches for the files before it.
    storage.put(_NUMBERS, (to_json(as_json(report), indent=1) + "\n").encode())
    return f"{storage.root.rstrip('/')}/{_INDEX}"


def report_is_current(run: str) -> bool:
    """Whether the run has a report, of this version, made from the commits and configurations that it has now.

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
    """
    opened = open_run(run)
    if opened.storage.entry(_NUMBERS) is None:
        return False
    try:
        numbers = json.loads(opened.storage.read(_NUMBERS))
    except ValueError:
        return False
    made_from = (numbers.get("schema_version"), numbers.get("digest")) if isinstance(numbers, dict) else ()
    return made_from == (REPORT_VERSION, opened.digest)
