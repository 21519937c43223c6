"""Whether `run.json`, the manifest and the configurations, which all else is judged by, are unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.run.canonical import checksum
from pipeline.run.labels import Label
from pipeline.run.layout import MANIFEST, RUN
from pipeline.shards.manifest import Manifest


def run_problems(document: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    """What is wrong with `run.json` or the manifest."""
    dataset = document.get("dataset")
    if not isinstance(dataset, Mapping):
        yield f"{RUN}: it names no data set"
        return
    if dataset.get("manifest_hash", "") not in (None, manifest.hash):
        yield f"{MANIFEST}: its content is not the one that {RUN} names"
    if dataset.get("samples") != len(manifest):
        yield f"{RUN}: {dataset.get('samples')} samples, the manifest has {len(manifest)}"
    if "checksum" in document and document["checksum"] != checksum(document):
        yield f"{RUN}: its content does not have its checksum"
    elif dataset.get("manifest_file", manifest.file_hash) != manifest.file_hash:
        yield f"{MANIFEST}: its bytes are not those that {RUN} names"


def label_problems(label: Label, document: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """What is wrong with a label's configuration; `columns`: the metrics that the run's tables have columns for."""
    name = label.config_name
    if label.version != document["schema_version"]:
        yield f"{name}: its schema_version is {label.version}, that of {RUN} {document['schema_version']}"
    yield from _shared_problems(label, columns)
    dataset = document.get("dataset")
    manifest_hash = dataset.get("manifest_hash") if isinstance(dataset, Mapping) else None
    if label.config["dataset"].get("manifest_hash") != manifest_hash:
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
