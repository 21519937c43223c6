"""What a run was begun with: `run.json`, the seal that completes it, and the manifest; each file is read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pipeline.run.documents import Document, Documents
from pipeline.run.forms import SEALED_LATER, has_form, unreadable
from pipeline.run.layout import MANIFEST, RUN, SEAL
from pipeline.run.manifest_parts import read_parts, sealed_document
from pipeline.run.records import RefusedError, RunRecord, SealRecord, fault, parsed
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.survey import ShardRecord
from pipeline.storage.base import Entry, Storage
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.errors import UsageError

Value = TypeVar("Value")
Object = Mapping[str, Any]


class Beginning:
    """The records that a run was begun with. Answers stay the same until `refresh`.

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
    def seal(self) -> Mapping[str, Any] | None:
        """What was added to `run.json` when all shards were listed; None before that, and where nothing had to be."""
        document = self._document_of(SEAL) if self._is_sealed_later else None
        if document is None:
            return None
        if (wrong := fault(SealRecord, document.value)) is not None:
            raise RefusedError(f"{self.root}/{SEAL}: {wrong}; not the seal of a run")
        return document.value

    @property
    def is_sealed(self) -> bool:
        """Whether all samples of a run are known."""
        return not self._is_sealed_later or self.seal is not None

    @property
    def _is_sealed_later(self) -> bool:
        return self.document is not None and has_form(self.document, SEALED_LATER)

    @property
    def listed(self) -> tuple[int, int] | None:
        """Shards listed so far, and how many there are; None once the listing has ended."""
        return None if self.is_sealed else (len(self.manifest.shards), len(self.required_record().dataset.shards))

    @property
    def unsealed(self) -> str | None:
        """One line that says how far the listing of the shards is; None once it has ended."""
        if self.listed is None:
            return None
        listed, of = self.listed
        return (
            f"{self.root}: {listed} of {of} shards are listed so far; type the same `ssig attribute` command to go on"
        )

    def described(self) -> Mapping[str, Any]:
        """`run.json` with what the seal adds to it, of a directory that must be a run."""
        return sealed_document(self.document or self.opened(), self.seal)

    @property
    def shards(self) -> list[ShardRecord]:
        """The shards of a directory that must be a run; while these are being listed, all that may be needed."""
        fields = ("name", "url", "size", "version", "sha256")
        return [
            ShardRecord(*(shard.get(field) for field in fields)) for shard in self.described()["dataset"]["shards"]
        ]

    @property
    def manifest(self) -> Manifest:
        """The manifest of a directory that must be a run; while its shards are being listed, of those that are.

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
        wrong = fault(RunRecord, dict(self.opened()))
        if wrong is None:
            return RunRecord.model_validate(dict(self.described()))
        if wrong.startswith("dataset"):
            raise RefusedError(f"{self.root}/{RUN}: its data set is not that of a run ({wrong})")
        raise RefusedError(f"{self.root}/{RUN}: {wrong}; not a run of ssig")

    def _load_manifest(self) -> Manifest:
        if not self.is_sealed:
            record = self.required_record()
            parts = read_parts(self.storage, self.shards)
            return manifests.assemble(parts, record.unit_size, record.dataset.limit, may_be_empty=True)
        entry = self.storage.entry(MANIFEST)
        if self._manifest is not None and self._manifest[0] == entry:
            return self._manifest[1]
        try:
            manifest = manifests.load(self.storage)
        except FileNotFoundError:
            raise RefusedError(f"{self.root}: no {MANIFEST}, so it is unknown what belongs to the run") from None
        self._manifest = None if entry is None else (entry, manifest)
        return manifest

    def _document_of(self, name: str) -> Document[Object] | None:
        entry = self._once(("entry", name), lambda: self.storage.entry(name))
        return None if entry is None else self._objects.all([entry])[0]

    def _parse(self, name: str, data: bytes) -> Object:
        record = parsed(data)
        if isinstance(record, str):
            raise RefusedError(f"{self.root}/{name}: {record}")
        return record
