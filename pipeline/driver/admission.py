"""Checks a job against its run directory, and records what is frozen.

Checks write nothing, so that a refused command leaves no trace and a finished run is not touched.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.driver.frozen import label_config, run_record
from pipeline.job.configuration import Job
from pipeline.report.reference import check_reference
from pipeline.run.described import FOREIGN_COLUMNS, foreign
from pipeline.run.differences import refuse_differences, refuse_other_options
from pipeline.run.directory import RunDirectory
from pipeline.run.earlier import completed, with_all_options
from pipeline.run.labels import Label
from pipeline.run.layout import MANIFEST, RUN, RUN_ENTRIES, SEAL, SHARDS
from pipeline.run.lease import LeaseHeldError
from pipeline.run.manifest_parts import publish_part
from pipeline.run.records import DatasetRecord, RefusedError
from pipeline.run.revisions import is_current, machine, measured_by, revisions_of
from pipeline.shards.changes import changes, refusal
from pipeline.shards.manifest import no_samples
from pipeline.shards.survey import ShardRecord, Survey
from pipeline.shards.surveying import Surveyor, look_up, survey
from pipeline.storage import fault_points
from pipeline.storage.jsontext import as_read, to_json
from ssig.errors import UsageError
from ssig.models import Model
from ssig.registry import FileSource


def check_output(
    job: Job, directory: RunDirectory, shards: Sequence[str], *, trusted: bool = False
) -> DatasetRecord | None:
    """The data of the run in the output directory, None if there is no run yet.

    Args:
        job: the job.
        directory: of its output.
        shards: by path or URL.
        trusted: whether a shard of equal size is taken for the same, where no hash can tell.

    Raises:
        RefusedError: the directory holds a run of other data or settings, or its shards have changed.
        UsageError: the directory holds something that is no run.
    """
    if directory.document is None:
        entries = RUN_ENTRIES | {SHARDS} if job.dataset.images is not None else RUN_ENTRIES
        strange = next((e.name for e in directory.storage.list() if e.name.split("/")[0] not in entries), None)
        if strange is not None:
            raise UsageError("output.path", directory.root, f"an empty directory or a run (it holds {strange})")
        return None
    directory.refuse_earlier()
    record = directory.required_record()
    recorded_urls = [shard.url for shard in record.dataset.shards]
    # A limit may be reached before the last shard is read. Units keep the size that was measured for them.
    job_urls = list(shards)[: len(recorded_urls)] if job.dataset.limit is not None else list(shards)
    refuse_differences(
        {
            "dataset": {"shards": recorded_urls, "limit": record.dataset.limit},
            "seed": record.seed,
            "unit_size": record.unit_size,
        },
        {
            "dataset": {"shards": job_urls, "limit": job.dataset.limit},
            "seed": job.seed,
            "unit_size": record.unit_size if job.unit_size == "auto" else job.unit_size,
        },
        f"{directory.root} holds a run with other settings",
        "give another output path, or the run's own settings",
    )
    check_shards(directory, trusted=trusted)
    return record.dataset


def check_shards(directory: RunDirectory, *, trusted: bool = False) -> None:
    """Refuses a run whose manifest or shards have changed; `trusted` as for `check_output`.

    Raises:
        RefusedError: they have.
    """
    recorded_hash, seal = directory.required_record().dataset.manifest_hash, directory.seal
    if recorded_hash is not None and directory.manifest.hash != recorded_hash:
        raise RefusedError(f"{directory.root}/{MANIFEST}: its hash is not the one in {RUN}")
    if seal is not None and directory.manifest.file_hash != seal["dataset"].get("manifest_file"):
        raise RefusedError(f"{directory.root}/{MANIFEST}: its hash is not the one in {SEAL}")
    records = directory.manifest.shards if recorded_hash is not None else directory.shards
    if changed := changes(records, trusted=trusted):
        raise RefusedError(refusal(changed))


def record_run(
    job: Job,
    directory: RunDirectory,
    shards: Sequence[str],
    by: Surveyor = survey,
) -> DatasetRecord:
    """Freezes the run, by the sizes and versions of its shards, and lists the first that has a sample.

    Args:
        job: the validated job, with a number as its `unit_size`.
        directory: of its output; nothing is in it.
        shards: by path or URL.
        by: how a shard is surveyed.

    Raises:
        UsageError: no shard has a readable sample.
        LeaseHeldError: another driver has recorded the run meanwhile: this one stood still for longer than its lease.
        OSError: an object store does not answer, or refuses a shard.
    """
    storage = directory.storage
    records = look_up(shards)
    first = _surveys_up_to_a_sample(records, by)
    fault_points.point("before-run-record", storage.root)
    if not storage.create(RUN, to_json(run_record(job, records), indent=1).encode()):
        raise LeaseHeldError(f"{storage.root}: another driver has recorded this run meanwhile")
    fault_points.point("after-run-record", storage.root)
    for ordinal, found in enumerate(first):
        publish_part(storage, ordinal, found)
    directory.refresh()
    return directory.required_record().dataset


def _surveys_up_to_a_sample(records: Sequence[ShardRecord], by: Surveyor) -> list[Survey]:
    """The first shards, up to one with a sample: a run without any is refused before it is one."""
    surveys: list[Survey] = []
    for record in records:
        surveys.append(by(record))
        if surveys[-1].samples.num_rows:
            return surveys
    raise no_samples([fault for found in surveys for fault in found.quarantine])


def check_target(job: Job, model: Model) -> None:
    """Refuses a given class that the network does not have."""
    target, classes = job.model.target, len(model.categories)
    if isinstance(target, int) and target >= classes:
        raise UsageError("model.target", target, f"label, predicted, or a class below {classes}")


def check_report(job: Job, directory: RunDirectory) -> None:
    """Raises a `UsageError` if a job's `report.reference` is no label of its own, nor of its model in the run."""
    if job.report.reference is not None:
        recorded_titles = [label.method for label in directory.labels if label.model == job.model_label]
        job_titles = [method.title for method in job.methods]
        check_reference("report.reference", job.report.reference, [*job_titles, *recorded_titles])


def job_labels(job: Job, data: Mapping[str, Any], model: Model) -> list[Label]:
    """The labels that a job asks for, with their configurations.

    Args:
        job: the job.
        data: identity of the data, as `DatasetRecord.known_by` gives it.
        model: the network.
    """
    described = {
        "name": job.model.recorded_name,
        "weights": job.model.weights,
        "weights_hash": model.weights_hash,
        "precision": model.precision,
        "input_size": list(model.input_size),
        "geometry": model.geometry.as_dict(),
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
        # Input settings that the job gives in place of the network's own, to load it again.
        "stated": {name: value for name, value in job.model.input_options.items() if value is not None},
        "classes": len(model.categories),
    }
    if model.source is not None:
        described["origin"] = model.source.origin
    recorded = {
        "batch": uuid.uuid4().hex[:12],
        "input_source": model.input_source,
        "warnings": list(model.warnings),
        "categories": list(model.categories),
        "machine": dict(machine()),
    }
    if isinstance(model.source, FileSource):
        recorded["model_file"] = model.source.path
    return [
        label_config(job, choice, data, described, {"position": position, **recorded})
        for position, choice in enumerate(job.methods)
    ]


def check_labels(directory: RunDirectory, labels: Iterable[Label]) -> list[Label]:
    """The labels to work on: the job's, as recorded where they are, and the model's others in the run.

    Raises:
        RefusedError: a label exists with other settings, or cannot be compared or stored with the run's labels.
    """
    recorded_labels = directory.labels
    recorded_by_name = {recorded.config_name: recorded for recorded in recorded_labels}
    chosen = {}
    for label in labels:
        if label.config_name not in recorded_by_name:
            chosen[label.method] = _in_its_batch(directory, label)
            continue
        recorded = with_all_options(recorded_by_name[label.config_name])
        refuse_differences(
            recorded.config,
            as_read(label.config),
            f"label {label.method!r} of model {label.model!r} exists with other settings",
            "give the changed method a label of its own, such as --method NAME:option=value,label=NEW; "
            "add metrics with `ssig evaluate`",
        )
        chosen[label.method] = recorded
    _refuse_unlike(chosen.values(), recorded_labels)
    recorded_methods = {
        recorded.method for recorded in recorded_labels if recorded.model == next(iter(chosen.values())).model
    }
    chosen = {
        name: label if name in recorded_methods else _placed(directory.root, label, recorded_labels)
        for name, label in chosen.items()
    }
    model = next(iter(chosen.values()))
    for recorded in map(with_all_options, recorded_labels):
        same_network = recorded.config["model"] == as_read(model.config["model"])
        if (
            recorded.model == model.model
            and recorded.method not in chosen
            and same_network
            and is_current(recorded.config)
        ):
            chosen[recorded.method] = recorded
    return list(chosen.values())


def _in_its_batch(directory: RunDirectory, label: Label) -> Label:
    """A label without a configuration, in the batch whose commits name it: its configuration was removed by hand."""
    batch = directory.batch_naming(label)
    return label if batch is None else Label(label.model, label.method, {**label.config, "batch": batch})


def _placed(root: str, label: Label, recorded_labels: Sequence[Label]) -> Label:
    """A new label, positioned after the run's labels, with the columns of their tables.

    Raises:
        RefusedError: its tables would have other columns; readers take the columns of one file for those of all.
    """
    if not recorded_labels:
        return label
    stored = {"maps": recorded_labels[0].settings.maps, "channels": recorded_labels[0].settings.channels}
    refuse_differences(
        {"output": stored},
        {"output": {name: label.config[name] for name in stored}},
        f"{root} stores maps in another way than label {label.method!r} asks for",
        "all maps of a run are read as one table: give the run's own setting, or another output path",
    )
    columns = recorded_labels[0].settings.columns
    new_metrics = [name for name in label.settings.metrics if name not in columns]
    if new_metrics:
        raise RefusedError(
            f"{root}: label {label.method!r} asks for {', '.join(new_metrics)}, and the run's tables have "
            f"{', '.join(columns) or 'no metric'}: all metrics of a run are read as one table, so the first job names "
            f"its columns; leave {'it' if len(new_metrics) == 1 else 'them'} out here, and then add: "
            f"ssig evaluate RUN {' '.join(f'--metric {name}' for name in new_metrics)}"
        )
    first = 1 + max(recorded.settings.position for recorded in recorded_labels)
    config = {**label.config, "columns": columns, "position": first + label.settings.position}
    if foreign_columns := {
        name: record for name, record in foreign(recorded_labels[0].config).items() if name in columns
    }:
        config[FOREIGN_COLUMNS] = foreign_columns
    return Label(label.model, label.method, config)


def _refuse_unlike(labels: Iterable[Label], recorded_labels: Sequence[Label]) -> None:
    """Refuses a new label whose network, target or metric options differ from its model's: labels are compared."""
    for label in labels:
        configs = {recorded.method: recorded.config for recorded in recorded_labels if recorded.model == label.model}
        if label.method in configs:
            continue
        for method, config in configs.items():
            what = f"label {method!r} of model {label.model!r} has another network, score or target"
            advice = "give this one a model label of its own: --set model.label=NEW"
            refuse_differences(_network(config), as_read(_network(label.config)), what, advice)
        recorded_metrics = [
            (f"label {method!r}", measured_by(completed(config))) for method, config in configs.items()
        ]
        advice = "give the metric the options that it has there, or add it later: `ssig evaluate RUN --name NEW`"
        refuse_other_options(measured_by(label.config), recorded_metrics, advice)


def _network(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is explained, and the revision of how it is prepared."""
    return {"model": config["model"], "revisions": {"preparation": revisions_of(config)["preparation"]}}


def record_labels(directory: RunDirectory, labels: Iterable[Label]) -> None:
    """Publishes the configurations of new labels."""
    for label in labels:
        directory.storage.create(label.config_name, to_json(label.config, indent=1).encode())
    directory.refresh()
    fault_points.point("after-labels", directory.root)
