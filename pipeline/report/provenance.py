"""What is needed to repeat a run: data, model, options, seed, versions, machine, and the job file itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.report.reference import ordered_methods
from pipeline.run.described import known_metric, origin_of
from pipeline.run.reader import Run
from pipeline.storage import yaml12
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError
from ssig.options import as_dict
from ssig.registry import METRICS, MetricSpec

# What a map without information scores, on the same images: the scale of every metric.
CONTROLS = {
    "random map": ("random",),
    "Sobel edges": ("sobel",),
    "centred Gaussian": ("centre",),
    "plain gradient": ("gradient",),
}
_SHOWN = ("readout", "score", "baseline")  # in columns of their own
_JOB_MODEL = ("name", "weights", "precision", "score", "target")


@dataclass(frozen=True)
class Method:
    """A method of the run as it was configured."""

    label: str
    name: str
    evaluations: str
    readout: str
    score: str
    baseline: str
    complete: str
    options: str
    paper: str
    equation: str
    fingerprint: str


@dataclass(frozen=True)
class Metric:
    """A metric as it was configured, for the methods `labels`."""

    name: str
    labels: tuple[str, ...]
    definition: str
    range: str
    reference: str
    options: str


@dataclass(frozen=True)
class Provenance:
    """Everything that repeats one model's part of a run.

    Attributes:
        jobs: YAML jobs, one for each way in which maps are stored.
        evaluations: commands that add the metrics that were added.
    """

    model: dict[str, str]
    methods: tuple[Method, ...]
    metrics: tuple[Metric, ...]
    machine: dict[str, str]
    missing_controls: tuple[str, ...]
    jobs: tuple[str, ...]
    evaluations: tuple[str, ...]


def provenance(run: Run, model: str, reference: str | None = None) -> Provenance:
    """The provenance of a model's rows; `reference`: the requested reference method, for the job file."""
    labels = ordered_methods(run, model)
    configs = [run.config[model, label] for label in labels]
    names = {config.get("method", {}).get("name") for config in configs}
    return Provenance(
        model=_facts(configs[0].get("model", {})),
        methods=tuple(_method(label, config) for label, config in zip(labels, configs, strict=True)),
        metrics=_metrics(
            [
                *((None, label, config) for label, config in zip(labels, configs, strict=True)),
                *(
                    (evaluation.name, evaluation.method, evaluation.config)
                    for evaluation in run.evaluations
                    if evaluation.model == model
                ),
            ]
        ),
        machine=_facts(configs[0].get("machine", {})),
        missing_controls=tuple(control for control, controls in CONTROLS.items() if names.isdisjoint(controls)),
        jobs=tuple(job_files(run, model, reference)),
        evaluations=tuple(evaluation_commands(run, model)),
    )


def network_input(config: Mapping[str, Any]) -> str:
    """What a network is given, in a sentence, from a label's configuration."""
    model = config.get("model", {})
    height, width = _pair(model.get("input_size")) or ("?", "?")
    mean, std = model.get("mean"), model.get("std")
    normalised = f"mean {_text(mean)} and standard deviation {_text(std)}, of pixels in [0, 1]"
    if mean is None or std is None:
        normalised = "mean and standard deviation that are not recorded"
    source = config.get("input_source")
    source_sentence = f" Source: {source}." if source else ""
    return (
        f"{height} × {width} pixels{_resized(model.get('geometry'))}; normalised with {normalised}.{source_sentence}"
    )


def network_warnings(config: Mapping[str, Any]) -> list[str]:
    """What was noticed when the network was loaded, one sentence each."""
    recorded = [owner.get("warnings") for owner in (config, config.get("model", {}))]
    sentences = [str(warning) for warnings in recorded if isinstance(warnings, list) for warning in warnings]
    return list(dict.fromkeys(sentences))


def _resized(geometry: Any) -> str:
    """How an image becomes that size, as a part of a sentence; empty where it is not known."""
    if not isinstance(geometry, Mapping):
        return "" if geometry is None else f" ({_text(geometry)})"
    resize = _pair(geometry.get("resize"))
    if resize is None:
        return f" ({_text(geometry)})"
    covers = "exactly" if geometry.get("mode") == "squash" else "cover"
    how = f"{resize[0]} × {resize[1]} ({_text(geometry.get('interpolation'))})"
    return f", cut from the centre of images resized to {covers} {how}"


def _pair(values: Any) -> tuple[Any, Any] | None:
    return (values[0], values[1]) if isinstance(values, list | tuple) and len(values) == 2 else None


def data(run: Run) -> dict[str, str]:
    """The run's data and seed."""
    dataset = dict(run.document.get("dataset", {}))
    dataset["shards"] = len(dataset.get("shards", []))
    settings = {name: run.document.get(name) for name in ("seed", "unit_size", "created")}
    return _facts({**dataset, **settings})


def versions(run: Run) -> dict[str, str]:
    """The software that ran."""
    return _facts(run.document.get("versions", {}))


def job_files(run: Run, model: str, reference: str | None = None) -> Iterator[str]:
    """The YAML jobs that repeat a model's part of the run, every option in full: one for all methods, if it can be."""
    alike: dict[str, list[str]] = {}
    for label in ordered_methods(run, model):
        config = run.config[model, label]
        alike.setdefault(to_json([config.get(name) for name in ("model", "maps", "channels")]), []).append(label)
    return (_job_file(run, model, labels, reference) for labels in alike.values())


def evaluation_commands(run: Run, model: str) -> Iterator[str]:
    """The commands that add what evaluations added, with the options that are not the default."""
    alike: dict[tuple[str, str], list[str]] = {}
    for evaluation in run.evaluations:
        if evaluation.model == model:
            chosen = " ".join(
                f"--metric {shlex.quote(_choice(name, evaluation.metrics[name], origin_of(evaluation.config, name)))}"
                for name in evaluation.metrics
            )
            alike.setdefault((evaluation.name, chosen), []).append(evaluation.method)
    for (name, chosen), labels in alike.items():
        methods = " ".join(f"--method {shlex.quote(label)}" for label in labels)
        yield f"ssig evaluate RUN --model {shlex.quote(model)} --name {shlex.quote(name)} {methods} {chosen}"


def named_again(name: str, origin: Mapping[str, str] | None) -> str:
    """The name by which a job uses a method, metric or network again: ``./FILE:NAME`` for one in a file."""
    return f"./{origin['file']}:{name}" if origin is not None and "file" in origin else name


def _named(method: Mapping[str, Any], label: str) -> dict[str, str]:
    return {"name": named_again(method.get("name", label), method.get("origin"))}


def _choice(name: str, options: Mapping[str, Any], origin: Mapping[str, str] | None) -> str:
    """A metric as the command line takes it: ``NAME:option=value,…``."""
    usual = as_dict(METRICS[name].parse({})) if name in METRICS.names() else {}
    changed = [f"{option}={to_json(value)}" for option, value in options.items() if usual.get(option, ...) != value]
    return ":".join([named_again(name, origin), *([",".join(changed)] if changed else [])])


def _job_file(run: Run, model: str, labels: Sequence[str], reference: str | None) -> str:
    configs = [run.config[model, label] for label in labels]
    metrics = {name: options for config in configs for name, options in config.get("metrics", {}).items()}
    origins = {name: origin_of(config, name) for config in configs for name in config.get("metrics", {})}
    dataset = run.document.get("dataset", {})
    recorded_model = configs[0].get("model", {})
    network = {
        **{name: recorded_model[name] for name in _JOB_MODEL if name in recorded_model},
        **recorded_model.get("stated", {}),
    }
    if "file" in recorded_model.get("origin", {}):
        network["name"] = f"./{network['name']}"
    stored: dict[str, Any] = {name: configs[0][name] for name in ("maps", "channels") if name in configs[0]}
    job = {
        "dataset": {
            "shards": [shard["url"] for shard in dataset.get("shards", [])],
            "limit": dataset.get("limit"),
        },
        "model": {**network, "label": model},
        "methods": [
            {**_named(method, label), "label": label, **method.get("options", {})}
            for label, method in zip(labels, (config.get("method", {}) for config in configs), strict=True)
        ],
        "metrics": [{"name": named_again(name, origins[name]), **options} for name, options in metrics.items()],
        "output": {"path": run.root, **stored},
        **({"report": {"reference": reference}} if reference in labels else {}),
        "unit_size": run.document.get("unit_size"),
        "seed": run.document.get("seed"),
    }
    return yaml12.dump(job, sort_keys=False, default_flow_style=None, width=110)


def options_text(options: Mapping[str, Any]) -> str:
    """Options as one line, without those that are not set."""
    return ", ".join(f"{name} {_text(value)}" for name, value in options.items() if value is not None) or "none"


def _method(label: str, config: Mapping[str, Any]) -> Method:
    method = config.get("method", {})
    options = method.get("options", {})
    return Method(
        label=label,
        name=_with_bases(method.get("name", label) + _origin(method.get("origin")), method.get("base_origins", {})),
        evaluations=_evaluations(method),
        readout=_text(options.get("readout")),
        score=_text(options.get("score") or config.get("model", {}).get("score")),
        baseline=_text(options.get("baseline")),
        complete="yes" if method.get("complete") else "no",
        options=options_text({name: value for name, value in options.items() if name not in _SHOWN}),
        paper=_text(method.get("paper")),
        equation=_text(method.get("equation")),
        fingerprint=_text(config.get("fingerprint")),
    )


def _evaluations(method: Mapping[str, Any]) -> str:
    """Gradient evaluations per image, and the forwards of a method that takes some."""
    gradients = _text(method.get("evaluations"))
    return f"{gradients} and {_text(method['forwards'])} forwards" if "forwards" in method else gradients


def _with_bases(name: str, base_origins: Mapping[str, Mapping[str, str]]) -> str:
    """A method's name, with the methods that it runs and that are not ssig's own."""
    return name + "".join(f", of {base}{_origin(origin)}" for base, origin in base_origins.items())


def _origin(origin: Mapping[str, str] | None) -> str:
    """Where a method or metric comes from that is not ssig's own, in brackets; empty for ssig's own."""
    if origin is None:
        return ""
    if "file" in origin:
        return f" ({origin['file']}, SHA-256 {origin['sha256'][:12]})"
    return f" ({origin['distribution']} {origin['version']})"


def _metrics(measured: Iterable[tuple[str | None, str, Mapping[str, Any]]]) -> tuple[Metric, ...]:
    """Each metric once per distinct setting, with the labels that it applies to.

    Args:
        measured: evaluation (None for the run's own metrics), method label, and the configuration.
    """
    settings: dict[tuple[str, str | None, str], list[str]] = {}
    specs: dict[str, MetricSpec] = {}
    origins: dict[str, str] = {}
    for evaluation, label, config in measured:
        for name, options in config.get("metrics", {}).items():
            settings.setdefault((name, evaluation, to_json(options)), []).append(label)
            origins[name] = _origin(origin_of(config, name))
            with suppress(UsageError):  # of another version
                specs[name] = known_metric(config, name)
    order = {name: position for position, name in enumerate(METRICS.names())}
    return tuple(
        Metric(
            name=name + origins[name] + ("" if evaluation is None else f" (evaluation {evaluation})"),
            labels=tuple(labels),
            definition=specs[name].definition if name in specs else "",
            range=specs[name].range if name in specs else "",
            reference=specs[name].reference if name in specs else "",
            options=options_text(json.loads(options)),
        )
        for (name, evaluation, options), labels in sorted(
            settings.items(), key=lambda pair: order.get(pair[0][0], len(order))
        )
    )


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return options_text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return str(value)
