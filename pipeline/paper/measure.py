"""The paper's argument, measured: certainty by method, alignment by sampler, saturation by strength.

    suppression samples lie nearer to natural images than noise does  (alignment)
    so the network answers them and passes gradients back             (saturation)
    so their mean gradient tells more of the image                    (certainty)

Each step is a claim of Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025). The numbers are those of
the metrics `certainty`, `certainty_nce` and `alignment` and of `ssig.estimators.saturation`, for the suppression
family and its rivals, on the same images and with as many gradients each. One process, no cluster; a chunk of images
at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch

from pipeline.report.statistics import intervals
from pipeline.shards import manifest
from pipeline.shards.classes import check_classes
from pipeline.shards.reading import read_unit
from pipeline.unit.inputs import Prepared, prepare
from ssig.engine.device import Device
from ssig.engine.explainer import MethodExplainer
from ssig.errors import UsageError
from ssig.estimators.saturation import QUANTITIES, saturation
from ssig.metrics.certainty.image_features import FEATURES
from ssig.models import Model
from ssig.options import as_dict
from ssig.randomness import stream
from ssig.registry import METHODS, METRICS
from ssig.types import Group, evaluation_of

Name = TypeVar("Name", bound=Hashable)

CHUNK = 16  # images at a time
SAMPLERS = ("line", "uniform", "uniform-channel", "bernoulli", "patch-14", "smooth-14", "frequency", "noise")
UNCHANGED = "identity"  # the sampler that leaves the image as it is
CONTROLS = ("random", "sobel", "centre")
REFERENCE = "random"

NOISE_STRENGTHS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
SUPPRESSION_STRENGTHS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
STRENGTHS = {
    "noise": NOISE_STRENGTHS,
    "uniform": SUPPRESSION_STRENGTHS,
    "uniform-channel": SUPPRESSION_STRENGTHS,
    "fade": SUPPRESSION_STRENGTHS,
}

CERTAINTY = ("certainty", "certainty_mean", "certainty_bound", *(f"certainty_{name}" for name in FEATURES))
ALIGNMENT = ("alignment", "alignment_spectrum")


@dataclass(frozen=True)
class Contender:
    """What is compared: a method with its options.

    Attributes:
        name: in tables and figures.
        kind: suppression, noise, rival or control.
        method, options: of the registry.
        sampler: its sampler, where alignment is measured.
    """

    name: str
    kind: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sampler: str | None = None


@dataclass(frozen=True)
class Settings:
    """What the numbers depend on besides network and images.

    Attributes:
        samples: gradient evaluations of each method and image.
        draws: samples at each strength of the saturation curves.
        seed: random seed.
        target: ``predicted`` or ``label``.
        features: what `alignment` looks at.
    """

    samples: int = 32
    draws: int = 4
    seed: int = 0
    target: str = "predicted"
    features: str = "penultimate"

    def options(self, metric: str) -> Any:
        """The options of a metric; all but this one are the defaults."""
        return METRICS[metric].parse({"features": self.features} if metric == "alignment" else {})


@dataclass
class Rows:
    """Numbers of all images so far: contender or law -> column -> one array of each chunk."""

    images: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    measured: dict[str, dict[str, list[np.ndarray]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    curves: dict[str, dict[str, list[np.ndarray]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )


def contenders(samples: int) -> tuple[Contender, ...]:
    """The magnitudes of the suppression family and of noise, the rivals, and the controls."""
    family = tuple(
        Contender(
            f"ssig {sampler}",
            "noise" if sampler == "noise" else "suppression",
            "ssig",
            {"sampler": sampler, "samples": samples},
            sampler,
        )
        for sampler in SAMPLERS
    )
    rivals = (
        Contender("gradient", "rival", "gradient", {}, UNCHANGED),
        Contender("ig", "rival", "ig", {"steps": samples}),
        Contender("smoothgrad", "rival", "smoothgrad", {"samples": samples}),
    )
    return (*family, *rivals, *(Contender(name, "control", name) for name in CONTROLS))


def measure(
    device: Device,
    model: Model,
    shards: Sequence[str],
    limit: int,
    settings: Settings,
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, Any]:
    """The record of the three figures, as JSON takes it.

    Args:
        device: the network that attributes.
        model: the same network, plain: its activations are watched.
        shards: paths or URLs, in order.
        limit: the first so many samples of them.
        settings: what else the numbers depend on.
        progress: called with the number of images that were just done.

    Raises:
        UsageError: there is no image that can be explained, or class numbers mean other classes in the network.
    """
    check_classes(shards, model.categories, by_label=settings.target == "label")
    compared, rows = contenders(settings.samples), Rows()
    for prepared in _prepared(device, model, shards, limit, settings, rows.failed):
        rows.images += len(prepared.ok)
        _attribute(device, model, prepared, compared, settings, rows)
        _saturate(model, prepared, settings, rows, device.replica.micro_batch)
        progress(len(prepared.ok))
    if rows.images == 0:
        raise UsageError("--shards", list(shards), f"a shard with images that can be explained ({dict(rows.failed)})")
    return {
        "images": rows.images,
        "failed": dict(rows.failed),
        "model": model.name,
        "weights_hash": model.weights_hash,
        "shards": list(shards),
        "score": "logit",
        "baseline": "mean",
        **asdict(settings),
        "metrics": {name: as_dict(settings.options(name)) for name in ("certainty", "certainty_nce", "alignment")},
        "certainty": _certainty(rows, compared, settings),
        "alignment": _alignment(rows, compared, settings),
        "saturation": _saturation(rows),
    }


def _prepared(
    device: Device, model: Model, shards: Sequence[str], limit: int, settings: Settings, failed: Counter[str]
) -> Iterator[Prepared]:
    """The images in chunks; of those that cannot be explained, the status is counted."""
    listing = manifest.build(shards, CHUNK, limit)
    urls = {shard.name: shard.url for shard in listing.shards}
    by_label = settings.target == "label"
    for unit in listing.units():
        classes = len(model.categories) if by_label else None
        samples = read_unit(urls[unit.shard], listing.rows(unit.id), needs_label=by_label, classes=classes)
        prepared = prepare(samples, model, settings.target)
        prepared.predict(device.forward)
        failed.update(
            str(outcome.status) for number, outcome in enumerate(prepared.outcomes) if number not in prepared.ok
        )
        if prepared.ok:
            yield prepared


def _attribute(
    device: Device,
    model: Model,
    prepared: Prepared,
    compared: Iterable[Contender],
    settings: Settings,
    rows: Rows,
) -> None:
    """Maps of each contender, and the metrics of these and of its sampler's points."""
    keys = tuple(prepared.identity(number) for number in range(len(prepared.ok)))
    usual = evaluation_of(
        prepared.images,
        torch.zeros(len(keys), *prepared.images.shape[2:]),
        prepared.targets,
        device.forward,
        model,
        masks=prepared.masks,
        logits=prepared.logits,
        keys=keys,
        seed=settings.seed,
        activations=device.activations,
    )
    for contender in compared:
        spec = METHODS[contender.method]
        explainer = MethodExplainer(
            device=device,
            spec=spec,
            options=spec.parse(contender.options),
            images=prepared.images,
            targets=prepared.targets,
            keys=keys,
            mean=model.mean,
            seed=settings.seed,
        )
        maps = explainer.maps(prepared.images, prepared.targets, torch.arange(len(keys)))
        # What these metrics share is of the images alone, so the contenders may share it too.
        evaluation = replace(usual, maps=maps, explainer=explainer)
        for name in ("certainty", "certainty_nce", *(("alignment",) if contender.sampler else ())):
            result = METRICS[name].compute(evaluation, settings.options(name))
            for column, values in {**result.columns, **result.vectors}.items():
                rows.measured[contender.name][column].append(values)


def _saturate(model: Model, prepared: Prepared, settings: Settings, rows: Rows, micro_batch: int) -> None:
    images = prepared.images.to(model.device)
    streams = tuple(
        stream(settings.seed, *prepared.identity(number), "saturation") for number in range(len(prepared.ok))
    )
    group = Group(images, model.mean.to(images).view(1, -1, 1, 1).expand_as(images), streams)
    for law, strengths in STRENGTHS.items():
        measured = saturation(
            model, group, prepared.targets, law, strengths, samples=settings.draws, micro_batch=micro_batch
        )
        for name in QUANTITIES:
            rows.curves[law][name].append(getattr(measured, name))


def _certainty(rows: Rows, compared: Sequence[Contender], settings: Settings) -> list[dict[str, Any]]:
    """A line for each contender; what is above the reference is taken image by image."""
    values = {contender.name: _joined(rows.measured[contender.name], CERTAINTY) for contender in compared}
    for columns in values.values():
        columns[f"above_{REFERENCE}"] = columns["certainty"] - values[REFERENCE]["certainty"]
    estimates = _estimates(values)
    return [
        {
            "name": contender.name,
            "kind": contender.kind,
            "method": contender.method,
            "options": dict(contender.options),
            **estimates[contender.name],
            **_whole("certainty_nce", rows.measured[contender.name], settings),
        }
        for contender in compared
    ]


def _alignment(rows: Rows, compared: Sequence[Contender], settings: Settings) -> list[dict[str, Any]]:
    drawn = [contender for contender in compared if contender.sampler is not None]
    estimates = _estimates({contender.name: _joined(rows.measured[contender.name], ALIGNMENT) for contender in drawn})
    return [
        {
            "sampler": contender.sampler,
            "kind": contender.kind if contender.sampler != UNCHANGED else "control",
            **estimates[contender.name],
            **_whole("alignment", rows.measured[contender.name], settings),
        }
        for contender in drawn
    ]


def _saturation(rows: Rows) -> list[dict[str, Any]]:
    """A line for each law and strength; `relative_gradient` is over the image's own, law by law."""
    values: dict[tuple[str, float], dict[str, np.ndarray]] = {}
    for law, strengths in STRENGTHS.items():
        curves = _joined(rows.curves[law], QUANTITIES)
        with np.errstate(divide="ignore", invalid="ignore"):
            curves["relative_gradient"] = curves["gradient"] / curves["gradient"][:, :1]
        for place, strength in enumerate(strengths):
            values[law, strength] = {name: curve[:, place] for name, curve in curves.items()}
    return [{"law": law, "strength": strength, **numbers} for (law, strength), numbers in _estimates(values).items()]


def _joined(measured: Mapping[str, Sequence[np.ndarray]], columns: Iterable[str]) -> dict[str, np.ndarray]:
    return {column: np.concatenate(measured[column]) for column in columns}


def _whole(metric: str, measured: Mapping[str, Sequence[np.ndarray]], settings: Settings) -> dict[str, float | None]:
    """A metric's numbers of the whole data set, of the images that have all of its vectors."""
    spec = METRICS[metric]
    if spec.dataset is None:
        raise ValueError(f"{metric} has no number of the whole data set")
    vectors = _joined(measured, spec.vectors)
    usable = np.logical_and.reduce([np.isfinite(rows).all(axis=1) for rows in vectors.values()])
    numbers = spec.dataset({name: rows[usable] for name, rows in vectors.items()}, settings.options(metric))
    return {name: _number(value) for name, value in numbers.items()}


def _estimates(values: Mapping[Name, Mapping[str, np.ndarray]]) -> dict[Name, dict[str, Any]]:
    """Mean over images of each column (N,), with its 95 % interval and the number of images."""
    keys = [(name, column) for name, columns in values.items() for column in columns]
    spans = intervals(np.stack([values[name][column] for name, column in keys], axis=1))
    result: dict[Name, dict[str, Any]] = {name: {} for name in values}
    for place, (name, column) in enumerate(keys):
        ends = {end: _number(getattr(spans, end)[place]) for end in ("mean", "low", "high")}
        result[name][column] = {**ends, "count": int(spans.count[place])}
    return result


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
