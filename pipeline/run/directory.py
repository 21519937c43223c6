"""The run directory: the one object that reads what a run's records say, each file once.

Files are listed on first use, and many are read at a time. Answers stay the same until `refresh`. After it, everything
is listed again, and files that changed are read again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from pipeline.run.commit import parse_commit
from pipeline.run.documents import Document, Documents
from pipeline.run.labels import Label, check_evaluation, evaluation_label, run_label
from pipeline.run.layout import (
    COMMITS,
    CONFIGS,
    EVALUATION_RECORDS,
    EVALUATIONS,
    MANIFEST,
    QUARANTINE,
    RECORD_SUFFIX,
    RECORDS,
    RUN,
    commits_folder,
    is_evaluation_config,
    labels_of_commit,
)
from pipeline.run.records import CommitRecord, RefusedError, RunRecord, checksum, fault, parsed
from pipeline.run.schema import COMPACTED, unreadable
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.samples import Unit
from pipeline.storage.base import Entry, Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError, UsageError

Value = TypeVar("Value")
Object = Mapping[str, Any]


class Remaining(NamedTuple):
    """A unit that is not done, and the method labels that it is not done under."""

    unit: Unit
    methods: tuple[str, ...]


class RunDirectory:
    """The records of a run directory; its tables are read elsewhere (`pipeline.run.rows`).

    Args:
        storage: the run.

    Every property and method may raise, unless it says otherwise:

    Raises:
        RefusedError: a record that it needs is damaged, or not one of a run; the message names file and field.
        OSError: the storage does not give a file.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.root = storage.root
        self._objects: Documents[Object] = Documents(storage, self._parse)
        self._commits: Documents[CommitRecord] = Documents(
            storage, lambda name, data: parse_commit(storage.root, name, data)
        )
        self._manifest: tuple[Entry, Manifest] | None = None
        self._answers: dict[Any, Any] = {}

    def refresh(self) -> None:
        """Lists the directory again from now on: drivers or workers may have written meanwhile."""
        self._answers.clear()

    @property
    def document(self) -> Mapping[str, Any] | None:
        """`run.json` as it stands, of a schema that this version reads; None where there is no run."""
        return self._once(RUN, self._read_document)

    @property
    def record(self) -> RunRecord | None:
        """`run.json` by its fields; None where there is no run."""
        return None if self.document is None else self.required_record()

    def opened(self) -> Mapping[str, Any]:
        """`run.json` as it stands, of a directory that must be a run.

        Raises:
            UsageError: there is no run.
        """
        document = self.document
        if document is None:
            raise UsageError("run", self.root, "a run directory, one that holds run.json")
        if "schema_version" not in document:
            raise RefusedError(f"{self.root}/{RUN}: no field 'schema_version'; not a run of ssig")
        return document

    def required_record(self) -> RunRecord:
        """`run.json` by its fields, of a directory that must be a run.

        Raises:
            UsageError: there is no run.
        """
        return self._once("record", self._check_record)

    def refuse_earlier(self) -> None:
        """Refuses a run of an earlier schema: such runs can be read, but not added to.

        Raises:
            RefusedError: the run has an earlier schema.
            UsageError: there is no run.
        """
        version = self.opened()["schema_version"]
        if version != SCHEMA_VERSION:
            raise RefusedError(
                f"{self.root} is a run of ssig 0.1.0 (schema_version {version}), which this version reads and does "
                "not add to: finish it with ssig 0.1.0, or choose a new output path"
            )

    @property
    def manifest(self) -> Manifest:
        """The manifest of a directory that must be a run.

        Raises:
            RefusedError: there is none.
            UsageError: it is damaged.
        """
        return self._once(MANIFEST, self._load_manifest)

    def keep(self, manifest: Manifest) -> None:
        """Remembers a manifest that was just stored, so that it is not read again."""
        entry = self.storage.entry(MANIFEST)
        self._manifest = None if entry is None else (entry, manifest)
        self.refresh()

    @property
    def labels(self) -> list[Label]:
        """Every label of the run, in order of name."""
        return self._once("labels", lambda: self.read_labels(whole=True))

    def read_labels(self, *, whole: bool) -> list[Label]:
        """The same; without `whole`, fields that a reader does not need may be missing."""
        labels = []
        for document in self._objects_in(CONFIGS):
            config = document.value
            with self._naming(document.entry.name):
                labels.append(run_label(config, whole=whole))
        return labels

    @property
    def evaluations(self) -> list[Label]:
        """The labels of every evaluation of the run, in order of name: metrics that were added later."""
        return self._once("evaluations", lambda: list(self._read_evaluations()))

    def read_evaluations(self, *, whole: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and content of every configuration of an evaluation; `whole` as for `read_labels`."""
        for document in self._objects_in(EVALUATIONS, EVALUATION_RECORDS, chosen=is_evaluation_config):
            config = document.value
            with self._naming(document.entry.name):
                check_evaluation(config, whole=whole)
            yield document.entry.name, config

    def commits(self, label: Label) -> dict[str, CommitRecord]:
        """File name -> commit record, of every commit under a label, in order of name."""
        return self._once(("commits", label.commits), lambda: dict(self._read_commits(label)))

    def examined(self, label: Label) -> dict[str, CommitRecord | SsigError | OSError]:
        """The same, with an error in place of each commit that cannot be read; raises nothing."""
        documents = self._commits.read(self._listed(label))
        return {
            entry.name: document if isinstance(document, OSError) else document.content
            for entry, document in zip(self._listed(label), documents, strict=True)
        }

    def done(self, unit: str, label: Label) -> bool:
        """Whether a unit is done under a label: a commit of this configuration says so."""
        return unit in self._done_units(label)

    def done_count(self, label: Label) -> int:
        """How many units are done under a label."""
        return len(self._done_units(label))

    def remaining(self, labels: Sequence[Label]) -> list[Remaining]:
        """Manifest minus commits: each unit with the method labels that it is not done under, in order.

        Raises:
            RefusedError: also, a commit is of another configuration than its label: no worker would do its unit again.
        """
        self._commits.read([entry for label in labels for entry in self._listed(label)])  # all at once
        for label in labels:
            self._refuse_foreign_commits(label)
        remaining = []
        for unit in self.manifest.units():
            methods = tuple(label.method for label in labels if not self.done(unit.id, label))
            if methods:
                remaining.append(Remaining(unit, methods))
        return remaining

    def statuses(self, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
        """Committed rows by status under each method label."""
        return {label.method: self.counts(label) for label in labels}

    def counts(self, label: Label) -> dict[str, int]:
        """Committed rows by status under one label."""
        counts: Counter[str] = Counter()
        for commit in self.commits(label).values():
            counts.update(commit.statuses)
        return dict(counts)

    def proven(self, labels: Iterable[Label]) -> set[str]:
        """The method labels under which some unit is done."""
        return {label.method for label in labels if self._listed(label)}

    @property
    def quarantine(self) -> list[Mapping[str, Any]]:
        """The quarantine records, in order of name."""
        return [document.value for document in self._objects_in(QUARANTINE)]

    @property
    def quarantined(self) -> int:
        """How many quarantine records there are; they are not read."""
        return len(self._listing(QUARANTINE))

    def all_commits(self) -> list[CommitRecord]:
        """Every commit of the run and of its evaluations, also under unknown labels, in order of name."""
        return [document.value for document in self._all_commit_documents()]

    def digest(self) -> str:
        """A hash of all records: runs of equal digest hold equal results."""
        documents: list[Document[Any]] = [*self._objects_in(), *self._all_commit_documents()]
        if (run_document := self._document_of(RUN)) is not None:
            documents.append(replace(run_document, digest=_digest_of_run(run_document)))
        digest = hashlib.sha256()
        for document in sorted(documents, key=lambda document: document.entry.name):
            digest.update(document.entry.name.encode() + b"\0" + document.digest)
        return digest.hexdigest()

    def _once(self, key: Any, make: Callable[[], Value]) -> Value:
        """The value of `make`, which is called once between two calls of `refresh`."""
        if key not in self._answers:
            self._answers[key] = make()
        answer: Value = self._answers[key]
        return answer

    def _read_document(self) -> Object | None:
        document = self._document_of(RUN)
        if document is None:
            return None
        content = document.value
        if (wrong := unreadable(content)) is not None:
            raise RefusedError(f"{self.root}/{RUN}: {wrong}")
        return content

    def _check_record(self) -> RunRecord:
        document = dict(self.opened())
        wrong = fault(RunRecord, document)
        if wrong is None:
            return RunRecord.model_validate(document)
        if wrong.startswith("dataset"):
            raise RefusedError(f"{self.root}/{RUN}: its data set is not that of a run ({wrong})")
        raise RefusedError(f"{self.root}/{RUN}: {wrong}; not a run of ssig")

    def _load_manifest(self) -> Manifest:
        entry = self.storage.entry(MANIFEST)
        if self._manifest is not None and self._manifest[0] == entry:
            return self._manifest[1]
        try:
            manifest = manifests.load(self.storage)
        except FileNotFoundError:
            raise RefusedError(f"{self.root}: no {MANIFEST}, so it is unknown what belongs to the run") from None
        self._manifest = None if entry is None else (entry, manifest)
        return manifest

    def _read_evaluations(self) -> Iterator[Label]:
        bases = {(label.model, label.method): label for label in self.labels}
        for name, config in self.read_evaluations(whole=True):
            base = bases.get((config["model_label"], config["method_label"]))
            label = None if base is None else evaluation_label(base, config)
            if label is None or label.config_name != name:
                lacking = (
                    "name that ssig gives" if label else f"label {config['method_label']!r} of its model in the run"
                )
                raise RefusedError(f"{self.root}/{name}: no {lacking}; this is no evaluation of the run")
            yield label

    def _read_commits(self, label: Label) -> Iterator[tuple[str, CommitRecord]]:
        for document in self._commits.all(self._listed(label)):
            yield document.entry.name, document.value

    def _done_units(self, label: Label) -> set[str]:
        return self._once(
            ("done", label.commits, label.fingerprint),
            lambda: {commit.unit for commit in self.commits(label).values() if label.matches(commit)},
        )

    def _refuse_foreign_commits(self, label: Label) -> None:
        for name, commit in self.commits(label).items():
            if not label.matches(commit):
                raise RefusedError(
                    f"{self.root}/{name}: its fingerprint is {commit.fingerprint!r}, that of its label "
                    f"{label.fingerprint!r}; `ssig audit --repair` removes it, and then this command does its unit "
                    "again"
                )

    def _all_commit_documents(self) -> list[Document[CommitRecord]]:
        return self._commits.all([entry for entry in self._entries() if _is_commit(entry.name)])

    def _objects_in(self, *tops: str, chosen: Callable[[str], bool] = lambda name: True) -> list[Document[Object]]:
        """The records below some folders, or all, that are no commits."""
        entries = [entry for entry in self._entries(*tops) if not _is_commit(entry.name) and chosen(entry.name)]
        return self._objects.all(entries)

    def _document_of(self, name: str) -> Document[Object] | None:
        entry = self._once(("entry", name), lambda: self.storage.entry(name))
        return None if entry is None else self._objects.all([entry])[0]

    def _entries(self, *tops: str) -> list[Entry]:
        return [entry for top in tops or RECORDS for entry in self._listing(top)]

    def _listing(self, top: str) -> list[Entry]:
        """The records below a folder."""
        return self._once(
            ("listing", top),
            lambda: [entry for entry in self.storage.list(top) if entry.name.endswith(RECORD_SUFFIX)],
        )

    def _listed(self, label: Label) -> list[Entry]:
        """The files of a label's commits, however its names are encoded in their path."""
        home = commits_folder(label.evaluation, label.version)
        top = home.partition("/")[0]
        homes = self._once(("homes", top), lambda: _by_label(self._listing(top)))
        return homes.get((home, label.model, label.method), [])

    def _parse(self, name: str, data: bytes) -> Object:
        record = parsed(data)
        if isinstance(record, str):
            raise RefusedError(f"{self.root}/{name}: {record}")
        return record

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Puts the name of a file before the refusal of what it holds."""
        try:
            yield
        except RefusedError as error:
            raise RefusedError(f"{self.root}/{name}: {error}") from None


def _digest_of_run(document: Document[Object]) -> bytes:
    """That of `run.json` as it was before tables were compacted, which changes no result."""
    content = document.value
    if COMPACTED not in content.get("layout", ()):
        return document.digest
    before = {**content, "layout": [form for form in content["layout"] if form != COMPACTED]}
    if "checksum" in before:
        before["checksum"] = checksum(before)
    return hashlib.sha256(to_json(before, indent=1).encode()).digest()


def _is_commit(name: str) -> bool:
    """Whether a record lies where commits do."""
    top, *parts = name.split("/")
    return top == COMMITS or (top in (EVALUATIONS, EVALUATION_RECORDS) and len(parts) > 2 and parts[1] == COMMITS)


def _by_label(entries: Iterable[Entry]) -> dict[tuple[str, str, str], list[Entry]]:
    """The folder of commits, model and method label -> the commits there."""
    commits: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        labels = labels_of_commit(entry.name)
        if labels is not None:
            home = entry.name.rsplit("/", 3)[0]
            commits.setdefault((home, *labels), []).append(entry)
    return commits
