"""Writes the report of a run into its folder, and says whether an existing one is current."""

from __future__ import annotations

from pipeline.report.contents import REPORT_VERSION, as_json, contents
from pipeline.report.reference import report_record, requested_reference
from pipeline.report.render import html, markdown
from pipeline.report.tables import tables
from pipeline.run.layout import REPORT_PAGE, REPORT_RECORD, REPORT_TEXT, report_table
from pipeline.run.reader import Run, open_run
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError


def build_report(run: str, reference: str | None = None) -> str:
    """Makes RUN/report from the files of the run, and returns the path or URL of its `index.html`.

    Args:
        run: its path or URL.
        reference: label of the method that the others are compared with; None for that of the existing
            report, else the first that is no control.

    Raises:
        UsageError: there is no run, it was never configured, its files cannot be read, or it has no such method.
    """
    return write_report(open_run(run), reference)


def write_report(run: Run, reference: str | None = None) -> str:
    """`build_report`, of a run that is open."""
    if not run.config:
        raise UsageError("run", run.root, "a run with at least one configured method")
    report = contents(run, requested_reference(run, reference))
    storage = run.storage
    storage.put(REPORT_PAGE, html(run, report).encode())
    storage.put(REPORT_TEXT, markdown(report).encode())
    for name, text in tables(report).items():
        storage.put(report_table(name), text.encode())
    # The digest goes last: it proves that the files before it are whole.
    storage.put(REPORT_RECORD, (to_json(as_json(report), indent=1) + "\n").encode())
    return f"{storage.root.rstrip('/')}/{REPORT_PAGE}"


def report_is_current(run: Run, reference: str | None = None) -> bool:
    """Whether the run has a report, of this version, made from the commits and configurations that it has now, and
    for this `reference`; None for any."""
    return is_report_of(run.storage, run.digest, reference)


def is_report_of(storage: Storage, digest: str, reference: str | None = None) -> bool:
    """The same, of a run whose records have a digest."""
    record = report_record(storage)
    recorded_source = (record.get("schema_version"), record.get("digest"))
    return recorded_source == (REPORT_VERSION, digest) and reference in (None, record.get("reference"))
