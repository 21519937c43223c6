"""Evaluations: metrics that are added to a run from its stored maps, as a resumable job with files of its own.

    RUN/evaluations/NAME/model=M/method=X/<unit>.parquet                one row per sample, as in RUN/metrics
    RUN/evaluation-records/NAME/config/<label>.json                     metrics, options; the label's fingerprint
    RUN/evaluation-records/NAME/commits/batch=ID/<unit>.json            or model=M/method=X/<unit>.json

A unit is evaluated once it is committed in the run, and done once its commit here exists. The same command resumes
it; other options under the same name are refused. The run's own files stay as they are.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.driver.admission import check_shards
from pipeline.driver.campaign import Campaign, Plan
from pipeline.driver.ending import Summary, finish
from pipeline.driver.networks import load_network
from pipeline.driver.place import Place
from pipeline.driver.progress import Listener, Progress, silent
from pipeline.driver.remaining import units_to_do
from pipeline.driver.schedule import Work
from pipeline.job.choices import descriptions, metrics_config
from pipeline.job.configuration import EvaluationJob
from pipeline.run.canonical import fingerprint_of
from pipeline.run.compaction import settle_all
from pipeline.run.described import FOREIGN
from pipeline.run.differences import refuse_differences, refuse_other_options
from pipeline.run.directory import RunDirectory
from pipeline.run.earlier import completed, with_all_options
from pipeline.run.labels import (
    OF_THE_RUN,
    Label,
    evaluation_label,
)
from pipeline.run.layout import config_name
from pipeline.run.lease import Lease
from pipeline.run.maps import MAPS_WANTED, VALUES_WANTED
from pipeline.run.records import RefusedError
from pipeline.run.revisions import machine, measured_by, revisions, revisions_of, versions
from pipeline.run.trust import import_from_working_folder, owner_of, refuse_code_of_a_run, refuse_foreign_code
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import as_read, to_json
from ssig.errors import UsageError
from ssig.models import PREPARATION_REVISION, Model
from ssig.models.sources import runs_code
from ssig.registry.sources import FILE

NEW_NAME = "give the new one a name of its own, such as --name NEW"


def add_metrics(run: str, job: EvaluationJob, listener: Listener = silent, *, trust_shards: bool = False) -> Summary:
    """Runs or resumes an evaluation of a run and writes the run's report anew.

    Args:
        run: the run.
        job: the metrics, for which methods, and how the work is spread.
        listener: receives progress.
        trust_shards: take shards of equal size for those that were recorded, where no hash can tell.

    Raises:
        UsageError, ModelError, RefusedError, LeaseHeldError: before any work; nothing has changed.
        RunError: the evaluation could not go on.
    """
    for metric in job.metrics:
        refuse_code_of_a_run("metrics", metric.text, run)
    progress = Progress()
    storage = open_storage(run)
    directory = RunDirectory(storage)
    directory.refuse_earlier()
    record = directory.required_record()
    if directory.unsealed is not None:
        raise UsageError("run", directory.unsealed, "a run whose shards are all listed")
    check_shards(directory, trusted=trust_shards)
    bases = _bases(directory, job)
    recorded = [label for label in directory.evaluations if label.evaluation == job.title]
    batch = uuid.uuid4().hex[:12]
    labels = [_label(job, base, batch, recorded) for base in bases]
    recorded_metrics = [
        (f"evaluation {job.title!r} of method {label.method!r}", measured_by(completed(label.config)))
        for label in recorded
        if label.model == bases[0].model
    ]
    refuse_other_options(measured_by(labels[0].config), recorded_metrics, NEW_NAME)
    works = _works(directory, bases, labels)
    undone = directory.remaining(bases)
    if undone:
        listener(progress, f"{len(undone)} units of the run are not done; they can be evaluated when they are")
    if not works:
        return finish(directory, labels, listener, progress)
    model = _model(storage, bases[0], job, listener, progress)

    def plan(lease: Lease, place: Place) -> Plan:
        settle_all(directory, lease)
        for label in labels:
            storage.create(label.config_name, to_json(_record(label), indent=1).encode())
        directory.refresh()
        return Plan(labels, _works(directory, bases, labels))

    return Campaign(directory, model, record.seed, job.actors, listener, progress).run(plan)


def _bases(directory: RunDirectory, job: EvaluationJob) -> list[Label]:
    """The run's labels to evaluate: all of one model, network and target."""
    labels = directory.labels
    models = sorted({label.model for label in labels})
    if job.model is None and len(models) > 1:
        raise UsageError("model", None, models)
    if job.model is not None and job.model not in models:
        raise UsageError("model", job.model, models)
    labels = [label for label in labels if label.model == (job.model or label.model)]
    methods = [label.method for label in labels]
    for method in job.methods:
        if method not in methods:
            raise UsageError("methods", method, methods)
    if not labels:
        raise UsageError("run", directory.root, "a run with at least one configured method")
    chosen = [with_all_options(label) for label in labels if label.method in (job.methods or methods)]
    for label in chosen:
        if label.config["maps"] == "none":
            raise UsageError("output.maps", "none", MAPS_WANTED)
        for metric in job.metrics:
            if "values" in metric.spec.needs and not label.config["channels"]:
                raise UsageError("metrics", metric.name, f"{VALUES_WANTED}, and label {label.method!r} has no values")
        if label.config["model"] != chosen[0].config["model"]:
            allowed = "methods that were run with one network and one target"
            raise UsageError("methods", [chosen[0].method, label.method], allowed)
        if revisions_of(label.config)["preparation"] != PREPARATION_REVISION:
            raise RefusedError(
                f"{directory.root}: label {label.method!r} was run by a version that prepares networks in another way "
                f"(revision {revisions_of(label.config)['preparation']}, now {PREPARATION_REVISION}): evaluate it "
                "with that version, or attribute again to a new output path"
            )
    return chosen


def _label(job: EvaluationJob, base: Label, batch: str, recorded: Sequence[Label] = ()) -> Label:
    """The evaluation of a label, as recorded where it is.

    Args:
        job: the metrics.
        base: the run's label.
        batch: id of the labels that this start of a driver records.
        recorded: the labels that are recorded under the evaluation's name.

    Raises:
        RefusedError: it is recorded with other metrics, or its tables would have other columns than theirs.
    """
    frozen: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation": job.title,
        "model_label": base.model,
        "method_label": base.method,
        "base": base.fingerprint,
        "metrics": metrics_config(job.metrics),
        "revisions": revisions(None, [metric.name for metric in job.metrics]),
    }
    if foreign := descriptions(job.metrics):
        frozen[FOREIGN] = foreign
    earlier = [label for label in recorded if (label.model, label.method) == (base.model, base.method)]
    if earlier:
        config = completed(_evaluation_part(earlier[0]))
        refuse_differences(config, as_read(frozen), f"evaluation {job.title!r} exists with other settings", NEW_NAME)
        return evaluation_label(base, config)
    columns = recorded[0].config["columns"] if recorded else list(frozen["metrics"])
    new_metrics = [metric for metric in frozen["metrics"] if metric not in columns]
    if new_metrics:
        raise RefusedError(
            f"evaluation {job.title!r} has the metrics {', '.join(columns)}, and {', '.join(new_metrics)} would be "
            f"one more column in some of its tables, which are read as one: {NEW_NAME}"
        )
    config = {
        **frozen,
        "fingerprint": fingerprint_of(frozen),
        "columns": columns,
        "batch": batch,
    }
    return evaluation_label(base, config)


def _record(label: Label) -> dict[str, Any]:
    """The record of an evaluation's label."""
    return {**_evaluation_part(label), "versions": versions(), "machine": dict(machine())}


def _evaluation_part(label: Label) -> dict[str, Any]:
    """An evaluation's configuration without the fields of the run's label."""
    return {name: value for name, value in label.config.items() if name not in OF_THE_RUN}


def _works(directory: RunDirectory, bases: Sequence[Label], labels: Sequence[Label]) -> list[Work]:
    """The units that are committed in the run and not in the evaluation, with the labels."""
    of_method = {base.method: base for base in bases}
    works = []
    for work in units_to_do(directory, labels):
        ready = tuple(method for method in work.labels if directory.done(work.unit, of_method[method]))
        if ready:
            works.append(Work(work.unit, ready, work.size))
    return works


def _model(storage: Storage, base: Label, job: EvaluationJob, listener: Listener, progress: Progress) -> Model:
    """The network that a label explains.

    Raises:
        UsageError: it would run code that somebody else's run names, and the job does not.
        RefusedError: it has other weights or makes other inputs of images now.
    """
    recorded = base.config["model"]
    named = _name(storage, base, job), recorded["weights"], recorded["precision"]
    model = load_network(*named, listener, progress, **recorded.get("stated", {}))
    if model.weights_hash != recorded["weights_hash"]:
        raise RefusedError(
            f"{storage.root}: model {base.model!r} was run with weights {recorded['weights_hash'][:12]}, "
            f"and {recorded['name']} has {model.weights_hash[:12]} now"
        )
    if model.source is not None and (now := model.source.origin) != recorded.get("origin"):
        raise RefusedError(
            f"{storage.root}: model {base.model!r} was run with code of {recorded.get('origin')}, and is {now} now"
        )
    advice = "load the network as it was loaded then, or attribute again to a new output path"
    refuse_differences(
        {"model": {"geometry": recorded["geometry"]}},
        as_read({"model": {"geometry": model.geometry.as_dict()}}),
        f"{storage.root}: {recorded['name']} makes other inputs of images now than it did for model {base.model!r}",
        advice,
    )
    return model


def _name(storage: Storage, base: Label, job: EvaluationJob) -> str:
    """The name by which a label's network is loaded; extends the import path if the name needs it.

    Raises:
        UsageError: it would run code that somebody else's run names, and the job does not; or its file is gone.
    """
    name: str = base.config["model"]["name"]
    file = FILE.fullmatch(name)
    trusted = None if job.trust is None else FILE.fullmatch(job.trust)
    if file is not None and trusted is not None and trusted["name"] == file["name"]:
        refuse_code_of_a_run("trust", str(job.trust), storage.root)
        return str(job.trust)
    if name not in (job.trust, job.model):
        config = config_name(base.model, base.method)
        advice = f"if you trust it, name it yourself: --trust {name if file is None else f'./{name}'}"
        refuse_foreign_code(f"{config}: model.name", name, owner_of(storage, config), advice)
    if file is not None:
        path = base.config.get("model_file", file["path"])
        if not Path(path).is_file():
            raise UsageError("trust", job.trust, f"the file of the network, which was {path}: --trust ./{name}")
        name = f"{path}:{file['name']}"
        refuse_code_of_a_run("model.name", name, storage.root)
    elif runs_code(name):
        import_from_working_folder(storage.root, name)
    return name
