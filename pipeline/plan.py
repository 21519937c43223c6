"""What a run is: `run.json`, frozen with the manifest, and one configuration per model-and-method label.

The fingerprint of a label is the SHA-256 of all that changes its results: data, seed, model with its weights, method
with its options, metrics with theirs, and how maps are stored. Actors, paths and log levels stay out.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.config import Job, MethodChoice, method_config, metrics_config
from pipeline.earlier import completed
from pipeline.names import EVALUATION_RECORDS, EVALUATIONS, RUN, config_name, is_evaluation_config
from pipeline.schema import unreadable
from pipeline.shards.manifest import Manifest
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import as_read, to_json
from ssig.errors import SsigError, UsageError
from ssig.models import PREPARATION_REVISION
from ssig.registry import METHODS, METRICS

VERSIONED = ("ssig", "torch", "torchvision", "timm", "numpy", "pyarrow", "ray", "webdataset", "Pillow")
# What workers that evaluate need of the configuration of the run's label.
OF_THE_RUN = ("model", "method", "maps", "channels", "categories")
# What `run.json` and configurations record beside what they freeze.
RECORDED_ONLY = (
    *("created", "versions", "machine", "fingerprint", "categories"),
    *("position", "batch", "columns", "warnings", "input_source"),
)
# Fields of a label's configuration that others count on, and what each is; a hand may have edited them.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "schema_version": (int,),
    **dict.fromkeys(("model_label", "method_label", "fingerprint", "maps"), (str,)),
    **dict.fromkeys(("dataset", "model", "method", "metrics"), (dict,)),
    **{"seed": (int,), "channels": (bool,), "categories": (list,), "model.name": (str,), "model.input_size": (list,)},
    **{"model.target": (str, int), "method.name": (str,), "method.options": (dict,)},
}
# Those that runs of schema 1 have not.
_KINDS_SINCE_2: Mapping[str, tuple[type, ...]] = {
    **{"columns": (list,), "position": (int,), "batch": (str,), "warnings": (list,)},
    **{"revisions.method": (int,), "revisions.metrics": (dict,), "revisions.preparation": (int,)},
}


class RefusedError(SsigError):
    """A run directory that belongs to something else; the message lists each field that differs."""


@dataclass(frozen=True)
class Label:
    """One model-and-method label of a run, with its recorded configuration; `evaluation`: of metrics added later."""

    model: str
    method: str
    config: Mapping[str, Any]
    evaluation: str | None = None

    @property
    def fingerprint(self) -> str:
        return str(self.config["fingerprint"])

    @property
    def version(self) -> int:
        """The schema of its run."""
        return int(self.config["schema_version"])


def run_record(job: Job, manifest: Manifest) -> dict[str, Any]:
    """The content of `run.json`."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "layout": [],
        "dataset": {
            "shards": [
                {"name": s.name, "url": s.url, "size": s.size, "version": s.version, "sha256": s.sha256}
                for s in manifest.shards
            ],
            "samples": len(manifest),
            "limit": job.dataset.limit,
            "manifest_hash": manifest.hash,
            "manifest_file": manifest.file_hash,
        },
        "seed": job.seed,
        "unit_size": job.unit_size,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    return {**record, "checksum": checksum(record)}


def label_config(
    job: Job,
    choice: MethodChoice,
    manifest_hash: str,
    model: Mapping[str, Any],
    recorded: Mapping[str, Any],
) -> Label:
    """The configuration of one label.

    Args:
        job: the job.
        choice: the method.
        manifest_hash: identity of the data.
        model: name, weights hash, geometry, … of the loaded network: what changes results.
        recorded: what changes none: `categories`, `machine`, `position`, `batch`, ….
    """
    frozen: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model_label": job.model_label,
        "method_label": choice.title,
        "dataset": {"manifest_hash": manifest_hash},
        "seed": job.seed,
        "model": {**model, "score": job.model.score, "target": job.model.target},
        "method": method_config(choice),
        "metrics": metrics_config(job.metrics),
        "revisions": revisions(choice.name, [metric.name for metric in job.metrics]),
        "maps": job.output.maps,
        "channels": job.output.channels,
    }
    fingerprint = hashlib.sha256(canonical(frozen)).hexdigest()
    columns = [metric.name for metric in job.metrics]
    config = {**frozen, "fingerprint": fingerprint, "columns": columns, **recorded}
    return Label(job.model_label, choice.title, config)


def revisions(method: str | None, metrics: Iterable[str]) -> dict[str, Any]:
    """The revisions of what measures: of the network's preparation, of metrics, and of a method unless it is None."""
    found: dict[str, Any] = {
        "preparation": PREPARATION_REVISION,
        "metrics": {name: METRICS[name].revision for name in metrics},
    }
    return found if method is None else {"method": METHODS[method].revision, **found}


def is_current(config: Mapping[str, Any]) -> bool:
    """Whether this version would go on with a label as it began: it has the same revisions of all that it needs."""
    method, metrics = config["method"]["name"], config["metrics"]
    known = method in METHODS and all(name in METRICS for name in metrics)
    return known and revisions_of(config) == revisions(method, metrics)


def revisions_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The revisions that a configuration records; what it does not record is 0."""
    found = config.get("revisions", {})
    metrics = {name: found.get("metrics", {}).get(name, 0) for name in config["metrics"]}
    whole = {"preparation": found.get("preparation", 0), "metrics": metrics}
    return {"method": found.get("method", 0), **whole} if "method" in config else whole


def measured_by(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each metric of a configuration with its options and its revision: equal ones may be compared."""
    found = revisions_of(config)["metrics"]
    return {name: {**options, "revision": found[name]} for name, options in config["metrics"].items()}


def refuse_differences(old: Mapping[str, Any], new: Mapping[str, Any], what: str, advice: str) -> None:
    """Raises `RefusedError` with a field-by-field diff unless both freeze the same."""
    lines = [
        f"  {field}: recorded {_short(before)}, asked for {_short(after)}"
        for field, before, after in differences(_frozen_part(old), _frozen_part(new))
    ]
    if lines:
        raise RefusedError("\n".join([f"{what}:", *lines, f"  ({advice})"]))


def refuse_other_options(
    asked: Mapping[str, Any], others: Iterable[tuple[str, Mapping[str, Any]]], advice: str
) -> None:
    """Keeps one column of a report from holding numbers that were measured in two ways.

    Args:
        asked: options and revision of each metric that is asked for.
        others: what measured for the same model, in words, with those of its metrics.
        advice: what to do in place of it.

    Raises:
        RefusedError: one of `others` has a metric with another value of an option that both know.
    """
    asked = as_read(asked)
    for who, metrics in others:
        alike = {name: asked[name].keys() & metrics[name].keys() for name in sorted(asked.keys() & metrics.keys())}
        old, new = (
            {f"metrics.{name}": {option: of[name][option] for option in options} for name, options in alike.items()}
            for of in (metrics, asked)
        )
        refuse_differences(old, new, f"{who} has the same metric with other options", advice)


def differences(old: Any, new: Any, field: str = "") -> list[tuple[str, Any, Any]]:
    """Each leaf in which two JSON values differ: dotted field, old value, new value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in differences(old.get(name), new.get(name), f"{field}.{name}" if field else name)
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{field}[{i}]")]
    return [] if old == new else [(field, old, new)]


def recorded_labels(storage: Storage) -> list[Label]:
    """Every label of a run, in order of name."""
    labels = []
    for entry in storage.list("config"):
        config = read_json(storage, entry.name)
        fault = config_fault(config, whole=True)
        if fault is not None:
            raise RefusedError(f"{storage.root}/{entry.name}: {fault}; this is no configuration of ours")
        labels.append(Label(config["model_label"], config["method_label"], config))
    return labels


def with_all_options(label: Label) -> Label:
    """The label with a value for each option, also for those that came up after it was recorded."""
    return replace(label, config=completed(label.config))


def config_fault(config: Mapping[str, Any], *, whole: bool) -> str | None:
    """What of a label's configuration is not as it is written; None if nothing is.

    Args:
        config: the configuration.
        whole: whether a field that is not there is a fault.
    """
    expected = _KINDS if config.get("schema_version") == 1 else {**_KINDS, **_KINDS_SINCE_2}
    for field, kinds in expected.items():
        group, _, name = field.rpartition(".")
        owner = config.get(group, {}) if group else config
        if name not in owner:
            if whole:
                return f"no field {field!r}"
        elif not isinstance(owner[name], kinds):
            return f"{field} is {to_json(owner[name])[:60]}"
    strange = [name for name, options in config.get("metrics", {}).items() if not isinstance(options, dict)]
    return f"metrics.{strange[0]} has no options" if strange else None


def evaluation_label(base: Label, recorded: Mapping[str, Any]) -> Label:
    """The label of an evaluation: what workers need of the run's configuration with what is recorded of its own."""
    of_the_run = {name: base.config[name] for name in OF_THE_RUN}
    return Label(base.model, base.method, {**of_the_run, **recorded}, recorded["evaluation"])


def recorded_evaluations(storage: Storage, bases: Iterable[Label]) -> Iterator[Label]:
    """The labels of every evaluation of a run, in order of name.

    Args:
        storage: the run.
        bases: its own labels.

    Raises:
        RefusedError: a configuration that is not of ours, or of a label that the run does not have.
    """
    known = {(base.model, base.method): base for base in bases}
    for entry in (*storage.list(EVALUATIONS), *storage.list(EVALUATION_RECORDS)):
        if not is_evaluation_config(entry.name):
            continue
        recorded = read_json(storage, entry.name)
        try:
            label = evaluation_label(known[recorded["model_label"], recorded["method_label"]], recorded)
            if (fault := config_fault(label.config, whole=False)) is not None:
                raise RefusedError(f"{storage.root}/{entry.name}: {fault}; this is no evaluation of the run")
            own_name = config_name(label.model, label.method, label.evaluation, label.version)
            missing = None if entry.name == own_name else "name of ours"
            if label.version > 1 and not isinstance(label.config["columns"], list):
                missing = "list of columns"
        except (KeyError, TypeError, ValueError) as error:
            missing = str(error)
        if missing is not None:
            raise RefusedError(f"{storage.root}/{entry.name}: no {missing}; this is no evaluation of the run")
        yield label


def read_run(storage: Storage) -> dict[str, Any] | None:
    """`run.json`, or None where there is none.

    Raises:
        RefusedError: a newer schema, or not ours.
    """
    if storage.entry(RUN) is None:
        return None
    record = read_json(storage, RUN)
    if "schema_version" not in record:
        raise RefusedError(f"{storage.root}/{RUN}: no field 'schema_version'; this is no run of ours")
    if (fault := unreadable(record)) is not None:
        raise RefusedError(f"{storage.root}/{RUN}: {fault}")
    return record


def refuse_earlier(storage: Storage, record: Mapping[str, Any]) -> None:
    """Refuses to work on a run of an earlier schema, which is read and not added to.

    Raises:
        RefusedError: it is one.
    """
    if record["schema_version"] != SCHEMA_VERSION:
        raise RefusedError(
            f"{storage.root} is a run of ssig 0.1.0 (schema_version {record['schema_version']}), which this version "
            "reads and does not add to: finish it with ssig 0.1.0, or choose a new output path"
        )


def open_run_record(storage: Storage) -> dict[str, Any]:
    """`run.json` of a directory that must be a run.

    Raises:
        UsageError: there is no run.
    """
    record = read_run(storage)
    if record is None:
        raise UsageError("run", storage.root, "a run directory, one that holds run.json")
    return record


def read_json(storage: Storage, name: str) -> dict[str, Any]:
    """A JSON object of the run.

    Raises:
        RefusedError: it does not parse.
    """
    try:
        value = json.loads(storage.read(name))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RefusedError(f"{storage.root}/{name}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise RefusedError(f"{storage.root}/{name}: not a JSON object")
    return value


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value."""
    return to_json(value, compact=True).encode()


def checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 of all that a record says but for its own `checksum`: what an accident to the file would change."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k != "checksum"})).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what results may depend on."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def _frozen_part(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in RECORDED_ONLY}


def _short(value: Any) -> str:
    text = "nothing" if value is None else to_json(value)
    return text if len(text) <= 90 else text[:87] + "..."
