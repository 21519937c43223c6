"""What a run has to do: checks a job against its directory, records what is frozen, lists the units to be done.

Checks write nothing, so that a refused command leaves no trace and a finished run is not touched.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import faults
from pipeline.commit import Commit, commits
from pipeline.config import Job
from pipeline.earlier import completed
from pipeline.lease import Lease, LeaseHeldError
from pipeline.names import (
    EVALUATION_RECORDS,
    EVALUATIONS,
    MANIFEST,
    RUN,
    TABLES,
    commit_folder,
    commit_name,
    config_name,
    folder,
    metrics_name,
    table_name,
)
from pipeline.plan import (
    Label,
    RefusedError,
    is_current,
    label_config,
    measured_by,
    read_json,
    read_run,
    recorded_evaluations,
    recorded_labels,
    refuse_differences,
    refuse_earlier,
    refuse_other_options,
    revisions_of,
    run_record,
    with_all_options,
)
from pipeline.schedule import Work
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.samples import Status
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import as_read, to_json
from pipeline.writer import DamagedTableError, read_table
from ssig.errors import UsageError
from ssig.models import Model

OURS = frozenset(
    {RUN, MANIFEST, *TABLES, EVALUATIONS, EVALUATION_RECORDS}
    | {"config", "commits", "quarantine", "report", "logs", ".lease", ".attempts"}
)


def check_output(job: Job, storage: Storage, shards: Sequence[str]) -> Manifest | None:
    """The manifest of the run in the output directory, None if there is no run yet.

    Raises:
        RefusedError: the directory holds a run of other data or settings, or its shards have changed.
        UsageError: the directory holds something that is no run.
    """
    record = read_run(storage)
    if record is None:
        strange = next((e.name for e in storage.list() if e.name.split("/")[0] not in OURS), None)
        if strange is not None:
            raise UsageError("output.path", storage.root, f"an empty directory or a run (it holds {strange})")
        return None
    refuse_earlier(storage, record)
    _check_record(storage, record)
    recorded_urls = [shard["url"] for shard in record["dataset"]["shards"]]
    # A limit may be reached before the last shard is read.
    wanted = list(shards)[: len(recorded_urls)] if job.dataset.limit is not None else list(shards)
    refuse_differences(
        {
            "dataset": {"shards": recorded_urls, "limit": record["dataset"]["limit"]},
            "seed": record["seed"],
            "unit_size": record["unit_size"],
        },
        {"dataset": {"shards": wanted, "limit": job.dataset.limit}, "seed": job.seed, "unit_size": job.unit_size},
        f"{storage.root} holds a run with other settings",
        "give another output path, or the run's own settings",
    )
    manifest = run_manifest(storage)
    if manifest.hash != record["dataset"]["manifest_hash"]:
        raise RefusedError(f"{storage.root}/{MANIFEST}: its hash is not the one in {RUN}")
    changed = manifests.verify_shards(manifest)
    if changed:
        raise RefusedError(
            "\n".join(["shards have changed since the run was started:", *(f"  {line}" for line in changed)])
        )
    return manifest


def run_manifest(storage: Storage) -> Manifest:
    """The manifest of a directory that must be a run.

    Raises:
        RefusedError: there is none.
        UsageError: it is damaged.
    """
    try:
        return manifests.load(storage)
    except FileNotFoundError:
        raise RefusedError(f"{storage.root}: no {MANIFEST}, so nobody knows what belongs to the run") from None


def _check_record(storage: Storage, record: Mapping[str, Any]) -> None:
    """Refuses a `run.json` that lacks what a run is known by."""
    try:
        dataset = record["dataset"]
        (*(shard["url"] for shard in dataset["shards"]), dataset["limit"], dataset["manifest_hash"])
        (record["seed"], record["unit_size"])
    except KeyError as missing:
        raise RefusedError(f"{storage.root}/{RUN}: no field {missing}; this is no run of ours") from None
    except TypeError as error:
        raise RefusedError(f"{storage.root}/{RUN}: its data set is not that of a run ({error})") from None


def record_run(job: Job, storage: Storage, shards: Sequence[str], lease: Lease | None = None) -> Manifest:
    """Builds the manifest and freezes the run; `run.json` goes last and makes it one.

    Raises:
        LeaseHeldError: another driver has recorded the run meanwhile: this one stood still for longer than its lease.
    """
    manifest = manifests.build(shards, job.unit_size, job.dataset.limit)
    faults.point("before-manifest", storage.root)
    if not manifest.save(storage):
        # A start that was cut off left its manifest; without run.json it binds nobody.
        if lease is not None:
            lease.verify()
        if storage.entry(RUN) is not None:
            raise LeaseHeldError(f"{storage.root}: another driver has recorded this run meanwhile")
        storage.delete(MANIFEST)
        manifest.save(storage)
    faults.point("after-manifest", storage.root)
    for number, fault in enumerate(manifest.quarantine):
        storage.put(f"quarantine/shard-{number:06d}.json", to_json({**asdict(fault), "attempts": 1}).encode())
    if not storage.create(RUN, to_json(run_record(job, manifest), indent=1).encode()):
        raise LeaseHeldError(f"{storage.root}: another driver has recorded this run meanwhile")
    faults.point("after-run-record", storage.root)
    return manifest


def check_target(job: Job, model: Model) -> None:
    """Refuses a given class that the network does not have."""
    target, classes = job.model.target, len(model.categories)
    if isinstance(target, int) and target >= classes:
        raise UsageError("model.target", target, f"label, predicted, or a class below {classes}")


def job_labels(job: Job, manifest_hash: str, model: Model) -> list[Label]:
    """The labels that a job asks for, with their configurations."""
    described = {
        "name": model.name,
        "weights": job.model.weights,
        "weights_hash": model.weights_hash,
        "precision": model.precision,
        "input_size": list(model.input_size),
        "geometry": model.geometry.as_dict(),
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
        # What the job gives of these in place of the network's own, to load it again.
        "stated": {name: value for name, value in job.model.input_options.items() if value is not None},
        "classes": len(model.categories),
    }
    recorded = {
        "batch": uuid.uuid4().hex[:12],
        "input_source": model.input_source,
        "warnings": list(model.warnings),
        "categories": list(model.categories),
        "machine": dict(machine()),
    }
    return [
        label_config(job, choice, manifest_hash, described, {"position": position, **recorded})
        for position, choice in enumerate(job.methods)
    ]


def check_labels(storage: Storage, labels: Iterable[Label]) -> list[Label]:
    """The labels to work on: those asked for, as recorded where they are, and the model's others in the run.

    Raises:
        RefusedError: a label exists with other settings, or the run has others that it cannot lie or be compared with.
    """
    others = recorded_labels(storage)
    wanted = {}
    for label in labels:
        name = config_name(label.model, label.method)
        if storage.entry(name) is None:
            wanted[label.method] = label
            continue
        recorded = Label(label.model, label.method, completed(read_json(storage, name)))
        refuse_differences(
            recorded.config,
            as_read(label.config),
            f"label {label.method!r} of model {label.model!r} exists with other settings",
            "give the changed method a label of its own, such as --method NAME:option=value,label=NEW; "
            "add metrics with `ssig evaluate`",
        )
        wanted[label.method] = recorded
    _refuse_unlike(wanted.values(), others)
    own = {other.method for other in others if other.model == next(iter(wanted.values())).model}
    wanted = {name: label if name in own else _placed(storage, label, others) for name, label in wanted.items()}
    model = next(iter(wanted.values()))
    for other in map(with_all_options, others):
        same_network = other.config["model"] == as_read(model.config["model"])
        if other.model == model.model and other.method not in wanted and same_network and is_current(other.config):
            wanted[other.method] = other
    return list(wanted.values())


def _placed(storage: Storage, label: Label, others: Sequence[Label]) -> Label:
    """A new label behind those that the run has, with the columns of their tables.

    Raises:
        RefusedError: its tables would have other columns, and a reader takes those of one file for those of all.
    """
    if not others:
        return label
    stored = {"maps": others[0].config["maps"], "channels": others[0].config["channels"]}
    refuse_differences(
        {"output": stored},
        {"output": {name: label.config[name] for name in stored}},
        f"{storage.root} stores maps in another way than label {label.method!r} asks for",
        "all maps of a run are read as one table: give the run's own setting, or another output path",
    )
    columns = others[0].config["columns"]
    new = [name for name in label.config["metrics"] if name not in columns]
    if new:
        raise RefusedError(
            f"{storage.root}: label {label.method!r} asks for {', '.join(new)}, and the run's tables have "
            f"{', '.join(columns) or 'no metric'}: all metrics of a run are read as one table, so the first job names "
            f"its columns; leave {'it' if len(new) == 1 else 'them'} out here, and then add: "
            f"ssig evaluate RUN {' '.join(f'--metric {name}' for name in new)}"
        )
    first = 1 + max(other.config["position"] for other in others)
    config = {**label.config, "columns": columns, "position": first + label.config["position"]}
    return Label(label.model, label.method, config)


def _refuse_unlike(wanted: Iterable[Label], recorded: Sequence[Label]) -> None:
    """Refuses a new label of another network, target or metric options than the model's others: they are compared."""
    for label in wanted:
        others = {other.method: other.config for other in recorded if other.model == label.model}
        if label.method in others:
            continue
        for method, config in others.items():
            what = f"label {method!r} of model {label.model!r} has another network, score or target"
            advice = "give this one a model label of its own: --set model.label=NEW"
            refuse_differences(_network(config), as_read(_network(label.config)), what, advice)
        named = [(f"label {method!r}", measured_by(completed(config))) for method, config in others.items()]
        advice = "give the metric the options that it has there, or add it later: `ssig evaluate RUN --name NEW`"
        refuse_other_options(measured_by(label.config), named, advice)


def _network(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is explained, and the revision of how it is prepared."""
    return {"model": config["model"], "revisions": {"preparation": revisions_of(config)["preparation"]}}


def record_labels(storage: Storage, labels: Iterable[Label]) -> None:
    """Publishes the configurations of new labels."""
    for label in labels:
        storage.create(config_name(label.model, label.method), to_json(label.config, indent=1).encode())
    faults.point("after-labels", storage.root)


def proven_labels(storage: Storage, labels: Iterable[Label]) -> set[str]:
    """The method labels under which some unit is done."""
    folders = {label.method: commit_folder(label.model, label.method, label.evaluation) for label in labels}
    return {method for method, commits_of in folders.items() if any(True for _ in storage.list(commits_of))}


def units_to_do(storage: Storage, manifest: Manifest, labels: Sequence[Label]) -> list[Work]:
    """Manifest minus commits: each unit with the labels it is not done under.

    Raises:
        RefusedError: a commit is of another configuration than its label: no worker would do its unit again.
    """
    done = {label.method: {commit.unit for commit in _own_commits(storage, label)} for label in labels}
    works = []
    for unit in manifest.units():
        missing = tuple(label.method for label in labels if unit.id not in done[label.method])
        if missing:
            works.append(Work(unit.id, missing, unit.stop - unit.start))
    return works


def _own_commits(storage: Storage, label: Label) -> Iterator[Commit]:
    for name, commit in commits(storage, label):
        if commit.fingerprint != label.fingerprint:
            raise RefusedError(
                f"{storage.root}/{name}: its fingerprint is {commit.fingerprint!r}, that of its label "
                f"{label.fingerprint!r}; `ssig audit --repair` removes it, and then this command does its unit again"
            )
        yield commit


def measured_from(commit: str, evaluations: Iterable[Label]) -> Iterator[str]:
    """What evaluations made of the attributions that a commit names: their commits and tables, commits first."""
    unit = PurePosixPath(commit).stem
    for one in evaluations:
        if commit_name(one.model, one.method, unit) == commit:
            yield commit_name(one.model, one.method, unit, one.evaluation, one.version)
            yield metrics_name(one.model, one.method, unit, one.evaluation)


def forget_failed(storage: Storage, labels: Iterable[Label]) -> int:
    """Un-commits every unit that holds a failed row, so that it is done again; how many.

    The commit goes first: a unit without its files must not look done. An attempt would go on from attributions that
    lie there without a commit, so those are looked through too: this may have been cut off before.
    """
    labels = list(labels)
    evaluations = list(recorded_evaluations(storage, recorded_labels(storage)))
    forgotten: set[tuple[str, str]] = set()
    for label in labels:
        done = set()
        for name, commit in list(commits(storage, label)):
            done.add(commit.unit)
            if set(commit.statuses) - {Status.OK}:
                for file in (*measured_from(name, evaluations), name):
                    storage.delete(file)
                forgotten.add((label.method, commit.unit))
                _forget_tables(storage, label, commit.unit)
        for unit in _failed_leavings(storage, label, done):
            _forget_tables(storage, label, unit)
    return len(forgotten)


def _forget_tables(storage: Storage, label: Label, unit: str) -> None:
    """Removes what an uncommitted unit holds and what was said of it, last the attributions: they tell of failures."""
    storage.delete(table_name("metrics", label.model, label.method, unit))
    for entry in list(storage.list("quarantine")):
        if entry.name.startswith(f"quarantine/poison-{unit}-"):
            storage.delete(entry.name)
    storage.delete(table_name("attributions", label.model, label.method, unit))


def _failed_leavings(storage: Storage, label: Label, done: Set[str]) -> list[str]:
    """Units beyond those that are done whose attributions hold a failed row."""
    found = []
    for entry in storage.list(f"attributions/{folder(label.model, label.method)}"):
        unit = PurePosixPath(entry.name).stem
        if unit not in done:
            with suppress(DamagedTableError):  # made anew in any case
                table = read_table(storage.read(entry.name), entry.name)
                if set(table["status"].to_pylist()) - {Status.OK}:
                    found.append(unit)
    return found


def forget_given_up(storage: Storage, works: Iterable[Work]) -> None:
    """Drops the records of units that were left undone and are about to be tried again."""
    recorded = {entry.name for entry in storage.list("quarantine")}
    for name in recorded & {given_up_name(work.unit) for work in works}:
        storage.delete(name)


def given_up_name(unit: str) -> str:
    """The record of a unit that was left undone."""
    return f"quarantine/unit-{unit}.json"


def statuses(storage: Storage, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
    """Committed rows by status under each method label."""
    found: dict[str, dict[str, int]] = {}
    for label in labels:
        counts: dict[str, int] = {}
        for _, commit in commits(storage, label):
            for status, count in commit.statuses.items():
                counts[status] = counts.get(status, 0) + count
        found[label.method] = counts
    return found


def machine() -> Mapping[str, Any]:
    """Where the driver runs, for the record."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}
