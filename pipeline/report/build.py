"""Writes the report of a run into its folder, and tells whether the one that is there is still true."""

from __future__ import annotations

from pipeline.report.contents import REPORT_VERSION, as_json, contents
from pipeline.report.reference import RECORD, asked_reference, report_record
from pipeline.report.render import html, markdown
from pipeline.report.tables import tables
from pipeline.run.reader import open_run
from pipeline.storage import open_storage
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

_INDEX = "report/index.html"


def build_report(run: str, reference: str | None = None) -> str:
    """Makes RUN/report from the files of the run, and returns the path or URL of its `index.html`.

    Args:
        run: its path or URL.
        reference: label of the method that the others are compared with; None for the one that the report which is
            there was asked for, else the first that is no control.

    Raises:
        UsageError: there is no run, it was never configured, its files cannot be read, or it has no such method.
    """
    opened = open_run(run)
    if not opened.config:
        raise UsageError("run", run, "a run with at least one configured method")
    report = contents(opened, asked_reference(opened, reference))
    storage = open_storage(run)
    storage.put(_INDEX, html(opened, report).encode())
    storage.put("report/report.md", markdown(report).encode())
    for name, text in tables(report).items():
        storage.put(f"report/tables/{name}", text.encode())
    # The digest goes last: it vouches for the files before it.
    storage.put(RECORD, (to_json(as_json(report), indent=1) + "\n").encode())
    return f"{storage.root.rstrip('/')}/{_INDEX}"


def report_is_current(run: str, reference: str | None = None) -> bool:
    """Whether the run has a report, of this version, made from the commits and configurations that it has now, and
    for this `reference`; None for any.

    Raises:
        UsageError: there is no run, or one of its records cannot be read.
    """
    opened = open_run(run)
    record = report_record(opened.storage)
    made_from = (record.get("schema_version"), record.get("digest"))
    return made_from == (REPORT_VERSION, opened.digest) and reference in (None, record.get("reference"))
