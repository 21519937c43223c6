"""Whether `run.json`, the manifest and the configurations, which all else is judged by, are unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.run.canonical import checksum
from pipeline.run.forms import SEALED_LATER, has_form
from pipeline.run.labels import Label
from pipeline.run.layout import MANIFEST, RUN, SEAL
from pipeline.shards.manifest import Manifest


def run_problems(
    document: Mapping[str, Any], manifest: Manifest, seal: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """What is wrong with `run.json`, the manifest or its seal."""
    dataset = document.get("dataset")
    if not isinstance(dataset, Mapping):
        yield f"{RUN}: it names no data set"
        return
    if has_form(document, SEALED_LATER):
        yield from _sealed_problems(document, manifest, seal)
        return
    if dataset.get("manifest_hash", "") not in (None, manifest.hash):
        yield f"{MANIFEST}: its content is not the one that {RUN} names"
    if dataset.get("samples") != len(manifest):
        yield f"{RUN}: {dataset.get('samples')} samples, the manifest has {len(manifest)}"
    if "checksum" in document and document["checksum"] != checksum(document):
        yield f"{RUN}: its content does not have its checksum"
    elif dataset.get("manifest_file", manifest.file_hash) != manifest.file_hash:
        yield f"{MANIFEST}: its bytes are not those that {RUN} names"


def _sealed_problems(document: Mapping[str, Any], manifest: Manifest, seal: Mapping[str, Any] | None) -> Iterator[str]:
    """The same, of a run whose manifest was sealed after it was begun, or is not sealed yet."""
    if document["checksum"] != checksum(document):
        yield f"{RUN}: its content does not have its checksum"
    recorded = [(shard.get("name"), shard.get("size")) for shard in document["dataset"]["shards"]]
    if [(shard.name, shard.size) for shard in manifest.shards] != recorded[: len(manifest.shards)]:
        yield f"{MANIFEST}: its shards are not those that {RUN} names"
    if seal is None:
        return
    if seal.get("checksum") != checksum(seal):
        yield f"{SEAL}: its content does not have its checksum"
    elif seal["dataset"]["manifest_file"] != manifest.file_hash:
        yield f"{MANIFEST}: its bytes are not those that {SEAL} names"
    if seal["dataset"]["samples"] != len(manifest):
        yield f"{SEAL}: {seal['dataset']['samples']} samples, the manifest has {len(manifest)}"


def label_problems(label: Label, document: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """What is wrong with a label's configuration; `columns`: the metrics that the run's tables have columns for."""
    name = label.config_name
    if label.version != document["schema_version"]:
        yield f"{name}: its schema_version is {label.version}, that of {RUN} {document['schema_version']}"
    yield from _shared_problems(label, columns)
    dataset = document.get("dataset")
    known_by = dataset if isinstance(dataset, Mapping) else {}
    if any(label.config["dataset"].get(name) != known_by.get(name) for name in ("manifest_hash", "identity")):
        yield f"{name}: it belongs to another manifest"
    if label.config["seed"] != document.get("seed"):
        yield f"{name}: its seed is {label.config['seed']}, that of {RUN} {document.get('seed')}"


def evaluation_problems(label: Label, base: Label, columns: Sequence[str]) -> Iterator[str]:
    """What is wrong with the configuration of an evaluation of `base`; `columns`: as its other tables have them."""
    if label.config["base"] != base.fingerprint:
        yield f"{label.config_name}: it belongs to another configuration of its label"
    yield from _shared_problems(label, columns)


def _shared_problems(label: Label, columns: Sequence[str]) -> Iterator[str]:
    if label.settings.columns != columns:
        yield f"{label.config_name}: its tables have other columns than those of other labels"
    if not label.is_genuine:
        yield f"{label.config_name}: its content does not have its fingerprint"
