"""Names of the files of a run; labels are percent-encoded, so that every label is one folder name."""

from __future__ import annotations

import re
from urllib.parse import quote

from pipeline.storage.fields import SCHEMA_VERSION

RUN = "run.json"
MANIFEST = "manifest.parquet"
TABLES = ("attributions", "metrics")
EVALUATIONS = "evaluations"
# Apart from the tables, so that a reader which is given their folder finds nothing else there.
EVALUATION_RECORDS = "evaluation-records"


# What a reader that infers the types of folder keys takes for no text; the last is how hive writes null.
_WORDS = frozenset({"true", "false", "null", "none", "nil", "nan", "~", "epoch", "__hive_default_partition__"})
_NUMBERS = re.compile(r"[+-]?(?:0[xob][0-9a-f_]+|(?=\.?\d)[\d_,.]+(?:e[+-]?[\d_.]+)?[dfl]?|inf(?:inity)?|nan)", re.I)
_PUNCTUATED_DIGITS = re.compile(r"[\d\s./:,;_+-]*\d[\d\s./:,;_+-]*")
_DATE = re.compile(r"\d{1,6}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T\s].*)?", re.S | re.I)
READS_AS_TEXT = "a label that reads as text, such as ig-4: readers of the run take this one for a number, date or null"


def reads_as_value(label: str) -> bool:
    """Whether some reader of hive folders would take a label for a number, a boolean, a date or null."""
    text = label.strip()
    return text.lower() in _WORDS or any(
        pattern.fullmatch(text) is not None for pattern in (_NUMBERS, _PUNCTUATED_DIGITS, _DATE)
    )


def encoded(label: str) -> str:
    """A label as one path component."""
    text = quote(label, safe="-_.~ ()+,")
    return text.replace(".", "%2E") if set(label) <= {"."} else text


def folder(model: str, method: str) -> str:
    """The hive folder of a model and method label."""
    return f"model={encoded(model)}/method={encoded(method)}"


def config_name(model: str, method: str, evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    """The configuration of a model and method label; `@` cannot occur in an encoded label."""
    name = f"config/{encoded(model)}@{encoded(method)}.json"
    return name if evaluation is None else f"{records_folder(evaluation, version)}/{name}"


def table_name(table: str, model: str, method: str, unit: str) -> str:
    return f"{table}/{folder(model, method)}/{unit}.parquet"


def metrics_name(model: str, method: str, unit: str, evaluation: str | None = None) -> str:
    """The metrics of a unit: those of the run itself, or those that an evaluation added."""
    return table_name("metrics" if evaluation is None else evaluation_folder(evaluation), model, method, unit)


def commit_name(
    model: str, method: str, unit: str, evaluation: str | None = None, version: int = SCHEMA_VERSION
) -> str:
    """The commit of a unit: of its attributions and metrics, or of what an evaluation added to them."""
    return f"{commit_folder(model, method, evaluation, version)}/{unit}.json"


def commit_folder(model: str, method: str, evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    beside = "commits" if evaluation is None else f"{records_folder(evaluation, version)}/commits"
    return f"{beside}/{folder(model, method)}"


def is_evaluation_config(name: str) -> bool:
    """Whether a file is the configuration of an evaluation, whatever that is called."""
    parts = name.split("/")
    return len(parts) == 4 and parts[0] in (EVALUATIONS, EVALUATION_RECORDS) and parts[2] == "config"


def evaluation_folder(evaluation: str) -> str:
    """Where an evaluation keeps the folders of its tables."""
    return f"{EVALUATIONS}/{encoded(evaluation)}"


def records_folder(evaluation: str, version: int = SCHEMA_VERSION) -> str:
    """Where an evaluation keeps its configurations and commits: in runs of schema 1, beside its tables."""
    return evaluation_folder(evaluation) if version == 1 else f"{EVALUATION_RECORDS}/{encoded(evaluation)}"


OURS = frozenset(
    {RUN, MANIFEST, *TABLES, EVALUATIONS, EVALUATION_RECORDS}
    | {"config", "commits", "quarantine", "report", "logs", ".lease", ".attempts"}
)
