"""Files in a run's folders that no label and no evaluation accounts for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

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
    batch_folder,
    encoded,
    folder,
    table_folder,
)
from pipeline.shards.packed import own_files
from pipeline.storage.base import Storage

UNIT = r"\d{6,}-\d{6,}-\d{6,}"
_LABEL_FOLDER, _BATCH_FOLDER = r"model=[^/]+/method=[^/]+", r"batch=[^/]+"
_SUFFIXES = {COMMITS: RECORD_SUFFIX, **dict.fromkeys(TABLES, TABLE_SUFFIX)}
_STRICT = (CONFIGS,)  # of the other folders, the one that holds nothing but what labels name


def strangers(
    storage: Storage, labels: Sequence[Label], unconfigured: Mapping[tuple[str, str], Collection[str]]
) -> Iterator[Finding]:
    """Files of the run itself.

    Args:
        storage: the run.
        labels: of the run.
        unconfigured: model and method label without a configuration -> the tables that commits of batches name there.
    """
    label_folders = {folder(label.model, label.method) for label in labels}
    batch_folders = {f"batch={encoded(label.batch)}" for label in labels if label.batch is not None}
    records = {RUN, MANIFEST, SEAL, *(label.config_name for label in labels), *own_files(storage, SHARDS)}
    named_tables = {name for names in unconfigured.values() for name in names}
    counts: Counter[str] = Counter()
    for labels_of, names in unconfigured.items():
        counts[folder(*labels_of)] = len({name.rpartition("/")[2] for name in names})
    for entry in storage.list():
        top, _, path = entry.name.partition("/")
        suffix = _SUFFIXES.get(top)
        if suffix is None or not path:
            if entry.name not in records and (top not in RUN_ENTRIES or top in _STRICT or not path):
                yield foreign(entry.name)
            continue
        home = _BATCH_FOLDER if top == COMMITS and path.startswith("batch=") else _LABEL_FOLDER
        named = re.fullmatch(rf"({home})/({UNIT}){re.escape(suffix)}", path)
        if named is None:
            yield foreign(entry.name)
        elif named[1] in label_folders or named[1] in batch_folders or entry.name in named_tables:
            continue  # judged with its label, or counted
        elif top == COMMITS:
            counts[named[1]] += 1
        elif storage.entry(commit := f"{COMMITS}/{named[1]}/{named[2]}{RECORD_SUFFIX}") is None:
            yield orphan(entry.name, (commit,))
    for place, count in counts.items():
        message = f"{COMMITS}/{place}: {count} commits whose configuration is gone"
        yield Finding(Kind.UNCONFIGURED, f"{message}; the command that made the run records it again")


def strange_evaluations(storage: Storage, evaluations: Sequence[Label]) -> Iterator[Finding]:
    """Files of evaluations."""
    configs = {label.config_name for label in evaluations}
    suffixes: dict[str, str] = {}
    for label in evaluations:
        suffixes[label.commits] = RECORD_SUFFIX
        if label.batch is not None:
            suffixes[batch_folder(label.batch, label.evaluation, label.version)] = RECORD_SUFFIX
        suffixes.update({table_folder(table, label.model, label.method): TABLE_SUFFIX for table in label.tables})
    for entry in (*storage.list(EVALUATIONS), *storage.list(EVALUATION_RECORDS)):
        home, _, file = entry.name.rpartition("/")
        is_evaluation_file = home in suffixes and re.fullmatch(UNIT + re.escape(suffixes[home]), file)
        if entry.name not in configs and not is_evaluation_file:
            yield foreign(entry.name)
