"""Names of all files of a run; labels are percent-encoded, so that every label is one folder name."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from pipeline.shards.names import MANIFEST_FILE
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.local import STAGING

RUN = "run.json"
MANIFEST = MANIFEST_FILE
PARTS = "manifest"  # of a manifest whose shards are still being listed
SEAL = "manifest.json"
CONFIGS = "config"
COMMITS = "commits"
ATTRIBUTIONS, METRICS = TABLES = ("attributions", "metrics")
EVALUATIONS = "evaluations"
# Beside the folder of the tables, so that readers of that folder find nothing but tables.
EVALUATION_RECORDS = "evaluation-records"
QUARANTINE = "quarantine"
LOGS = "logs"
LEASES = ".lease"
SHARDS = "shards"  # packed from a folder of images
REPORT = "report"
REPORT_PAGE, REPORT_TEXT, REPORT_RECORD = (f"{REPORT}/{name}" for name in ("index.html", "report.md", "report.json"))
TABLE_SUFFIX, RECORD_SUFFIX = ".parquet", ".json"
# Folders of the JSON records that say what the run holds.
RECORDS = (CONFIGS, COMMITS, QUARANTINE, EVALUATIONS, EVALUATION_RECORDS)
RUN_ENTRIES = frozenset({RUN, MANIFEST, PARTS, SEAL, *TABLES, *RECORDS, REPORT, LOGS, LEASES, STAGING})


# Readers that infer the types of folder keys take these for booleans or null; the last is hive's null.
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
    """The configuration of a model and method label."""
    name = f"{CONFIGS}/{label_key(model, method)}{RECORD_SUFFIX}"
    return name if evaluation is None else f"{records_folder(evaluation, version)}/{name}"


def table_folder(table: str, model: str, method: str) -> str:
    """Where a label keeps its `attributions` or `metrics`, or the table of an evaluation's folder."""
    return f"{table}/{folder(model, method)}"


def table_name(table: str, model: str, method: str, unit: str) -> str:
    return f"{table_folder(table, model, method)}/{unit}{TABLE_SUFFIX}"


def metrics_name(model: str, method: str, unit: str, evaluation: str | None = None) -> str:
    """The metrics of a unit: those of the run itself, or those that an evaluation added."""
    return table_name(METRICS if evaluation is None else evaluation_folder(evaluation), model, method, unit)


def commit_name(
    model: str, method: str, unit: str, evaluation: str | None = None, version: int = SCHEMA_VERSION
) -> str:
    """The commit of a unit: of its attributions and metrics, or of what an evaluation added to them."""
    return f"{commit_folder(model, method, evaluation, version)}/{unit}{RECORD_SUFFIX}"


def commit_folder(model: str, method: str, evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    return f"{commits_folder(evaluation, version)}/{folder(model, method)}"


def commits_folder(evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    """Where the run itself, or an evaluation, keeps the folders of its commits."""
    return COMMITS if evaluation is None else f"{records_folder(evaluation, version)}/{COMMITS}"


def batch_folder(batch: str, evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    """Where the commits of a batch lie: of labels that one start of a driver recorded."""
    return f"{commits_folder(evaluation, version)}/batch={encoded(batch)}"


def batch_commit_name(batch: str, unit: str, evaluation: str | None = None, version: int = SCHEMA_VERSION) -> str:
    """The commit of a unit under all labels of a batch."""
    return f"{batch_folder(batch, evaluation, version)}/{unit}{RECORD_SUFFIX}"


def labels_of_commit(name: str) -> tuple[str, str] | None:
    """The model and method label under which a commit lies; None where no commit of one label does."""
    match = _COMMIT.fullmatch(name)
    return None if match is None else (unquote(match[1]), unquote(match[2]))


def batch_of_commit(name: str) -> str | None:
    """The batch whose commit a file is; None where it is none."""
    match = _BATCH_COMMIT.fullmatch(name)
    return None if match is None else unquote(match[1])


def home_of_commit(name: str) -> str:
    """The folder of commits, of the run itself or of an evaluation, in which a commit lies."""
    return name.rsplit("/", 2 if batch_of_commit(name) is not None else 3)[0]


def label_key(model: str, method: str) -> str:
    """A label as one word; `@` cannot occur in an encoded label."""
    return f"{encoded(model)}@{encoded(method)}"


def labels_of_key(key: str) -> tuple[str, str]:
    """The model and method label of a `label_key`."""
    model, _, method = key.partition("@")
    return unquote(model), unquote(method)


def labels_of_table(name: str) -> tuple[str, str] | None:
    """The model and method label under which a table lies; None where no table does."""
    match = _TABLE.fullmatch(name)
    return None if match is None else (unquote(match[1]), unquote(match[2]))


def is_table(name: str) -> bool:
    """Whether a name is the path of a table in a run; a commit may name no other file."""
    return _TABLE.fullmatch(name) is not None


_LABELS = r"model=([^/]+)/method=([^/]+)"
_COMMIT = re.compile(rf"(?:.+/)?{COMMITS}/{_LABELS}/[^/]+{re.escape(RECORD_SUFFIX)}")
_BATCH_COMMIT = re.compile(rf"(?:.+/)?{COMMITS}/batch=([^/]+)/[^/]+{re.escape(RECORD_SUFFIX)}")
_TABLE = re.compile(rf"(?:{ATTRIBUTIONS}|{METRICS}|{EVALUATIONS}/[^/]+)/{_LABELS}/[^/]+{re.escape(TABLE_SUFFIX)}")


def is_evaluation_config(name: str) -> bool:
    """Whether a file is the configuration of an evaluation, whatever that is called."""
    parts = name.split("/")
    return len(parts) == 4 and parts[0] in (EVALUATIONS, EVALUATION_RECORDS) and parts[2] == CONFIGS


def evaluation_folder(evaluation: str) -> str:
    """Where an evaluation keeps the folders of its tables."""
    return f"{EVALUATIONS}/{encoded(evaluation)}"


def records_folder(evaluation: str, version: int = SCHEMA_VERSION) -> str:
    """Where an evaluation keeps its configurations and commits: in runs of schema 1, beside its tables."""
    return evaluation_folder(evaluation) if version == 1 else f"{EVALUATION_RECORDS}/{encoded(evaluation)}"


def shard_fault_name(number: int) -> str:
    """The record of a fault of a shard, numbered from 0."""
    return f"{QUARANTINE}/shard-{number:06d}{RECORD_SUFFIX}"


def poison_prefix(unit: str) -> str:
    """How the names of the records of a unit's poison samples begin."""
    return f"{QUARANTINE}/poison-{unit}-"


def poison_name(unit: str, index: int) -> str:
    """The record of a sample that is kept from the network."""
    return f"{poison_prefix(unit)}{index:06d}{RECORD_SUFFIX}"


def given_up_name(unit: str) -> str:
    """The record of a unit that was left undone."""
    return f"{QUARANTINE}/unit-{unit}{RECORD_SUFFIX}"


def reference_fault_name(unit: str, index: int) -> str:
    """The record of an image that could not serve as a reference."""
    return f"{QUARANTINE}/reference-{unit}-{index:06d}{RECORD_SUFFIX}"


def log_name(attempt: str, segment: int | None = None) -> str:
    """The log of a driver's attempt, or a segment of it, numbered from 1."""
    return f"{LOGS}/{attempt}.jsonl" if segment is None else f"{LOGS}/{attempt}-{segment:06d}.jsonl"


def lease_name(generation: int) -> str:
    return f"{LEASES}/{generation:06d}{RECORD_SUFFIX}"


def report_table(name: str) -> str:
    return f"{REPORT}/tables/{name}"
