"""Files in a run's folders that no label and no evaluation accounts for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pipeline.checks.findings import Finding, Kind, foreign, orphan
from pipeline.run.labels import Label
from pipeline.run.layout import (
    COMMITS,
    CONFIGS,
    EVALUATION_RECORDS,
    EVALUATIONS,
    MANIFEST,
    RECORD_SUFFIX,
    RUN,
    RUN_ENTRIES,
    SEAL,
    SHARDS,
    TABLE_SUFFIX,
    TABLES,
    folder,
    table_folder,
)
from pipeline.shards.packed import own_files
from pipeline.storage.base import Storage

UNIT = r"\d{6,}-\d{6,}-\d{6,}"
_LABEL_FOLDER = r"model=[^/]+/method=[^/]+"
_SUFFIXES = {COMMITS: RECORD_SUFFIX, **dict.fromkeys(TABLES, TABLE_SUFFIX)}
_STRICT = (CONFIGS,)  # of the other folders, the one that holds nothing but what labels name


def strangers(storage: Storage, labels: Mapping[str, Label]) -> Iterator[Finding]:
    """Files of the run itself; `labels`: by the names of their configurations."""
    label_folders = {folder(label.model, label.method) for label in labels.values()}
    records = {RUN, MANIFEST, SEAL, *labels, *own_files(storage, SHARDS)}
    unconfigured: Counter[str] = Counter()
    for entry in storage.list():
        top, _, path = entry.name.partition("/")
        suffix = _SUFFIXES.get(top)
        if suffix is None or not path:
            if entry.name not in records and (top not in RUN_ENTRIES or top in _STRICT or not path):
                yield foreign(entry.name)
            continue
        named = re.fullmatch(rf"({_LABEL_FOLDER})/({UNIT}){re.escape(suffix)}", path)
        if named is None:
            yield foreign(entry.name)
        elif named[1] in label_folders:
            continue  # judged with its label
        elif top == COMMITS:
            unconfigured[named[1]] += 1
        elif storage.entry(commit := f"{COMMITS}/{named[1]}/{named[2]}{RECORD_SUFFIX}") is None:
            yield orphan(entry.name, commit)
    for label_folder, count in unconfigured.items():
        message = f"{COMMITS}/{label_folder}: {count} commits whose configuration is gone"
        yield Finding(Kind.UNCONFIGURED, f"{message}; the command that made the run records it again")


def strange_evaluations(storage: Storage, evaluations: Mapping[str, Label]) -> Iterator[Finding]:
    """Files of evaluations; `evaluations`: by the names of their configurations."""
    suffixes: dict[str, str] = {}
    for label in evaluations.values():
        suffixes[label.commits] = RECORD_SUFFIX
        suffixes.update({table_folder(table, label.model, label.method): TABLE_SUFFIX for table in label.tables})
    for entry in (*storage.list(EVALUATIONS), *storage.list(EVALUATION_RECORDS)):
        home, _, file = entry.name.rpartition("/")
        is_evaluation_file = home in suffixes and re.fullmatch(UNIT + re.escape(suffixes[home]), file)
        if entry.name not in evaluations and not is_evaluation_file:
            yield foreign(entry.name)
