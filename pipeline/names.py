"""Names of the files of a run; labels are percent-encoded, so that every label is one folder name."""

from __future__ import annotations

from urllib.parse import quote

RUN = "run.json"
MANIFEST = "manifest.parquet"
TABLES = ("attributions", "metrics")


def encoded(label: str) -> str:
    """A label as one path component."""
    text = quote(label, safe="-_.~ ()+,")
    return text.replace(".", "%2E") if set(label) <= {"."} else text


def folder(model: str, method: str) -> str:
    """The hive folder of a model and method label."""
    return f"model={encoded(model)}/method={encoded(method)}"


def config_name(model: str, method: str) -> str:
    """The configuration of a model and method label; `@` cannot occur in an encoded label."""
    return f"config/{encoded(model)}@{encoded(method)}.json"


def table_name(table: str, model: str, method: str, unit: str) -> str:
    return f"{table}/{folder(model, method)}/{unit}.parquet"


def commit_name(model: str, method: str, unit: str) -> str:
    return f"commits/{folder(model, method)}/{unit}.json"
