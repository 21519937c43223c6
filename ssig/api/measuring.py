"""`measure`: the numbers of any map under the metrics of the registry, without a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssig.api.attribution import replica_of
from ssig.api.inputs import (
    PREDICTED,
    Images,
    Targets,
    batch_of,
    network_of,
    pictures_of,
    place_of,
    settled,
    targets_of,
)
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.models.geometry import area_of, mask_to_input, to_input
from ssig.models.model import Model
from ssig.models.scores import check_targets
from ssig.registry import METRICS, MetricSpec
from ssig.registry.choices import with_options
from ssig.types import NO_OBJECT, OUTSIDE, TOO_SMALL, Attribution, Box, Evaluation, MetricResult, Scores, evaluation_of

Metric = str | MetricSpec | Callable[..., Any]
Boxes = Sequence[Box]
Mask = np.ndarray | Tensor | Image.Image

# Images measured at once, and points that a metric makes at a time.
_CHUNK, _LEAST_POINTS = 16, 64
_ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True, repr=False)
class Measured(Mapping[str, np.ndarray]):
    """Column -> its numbers, (B,) float; NaN where `excluded` says why there is none.

    Attributes:
        columns: the same, as a mapping.
        directions: column -> which numbers are better: ``higher``, ``lower`` or ``none``.
        curves: curve column -> (B, n).
        excluded: for each image, column -> why there is no number.
    """

    columns: Mapping[str, np.ndarray]
    directions: Mapping[str, str]
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    excluded: tuple[Mapping[str, str], ...] = ()

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __repr__(self) -> str:
        rows = [(name, " ".join(cells)) for name, cells in self._rows()]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {cells}" for name, cells in rows)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left;font-weight:400">{escape(name)}</th>'
            + "".join(f'<td style="text-align:right">{escape(cell)}</td>' for cell in cells)
            + "</tr>"
            for name, cells in self._rows()
        )
        return f'<table style="font:13px/1.45 system-ui,sans-serif">{rows}</table>'

    def _rows(self) -> list[tuple[str, list[str]]]:
        """Each column with its arrow, and its numbers or why there are none."""
        return [
            (f"{name} {_ARROWS.get(self.directions[name], '')}".strip(), [self._cell(name, k) for k in range(len(v))])
            for name, v in self.columns.items()
        ]

    def _cell(self, column: str, image: int) -> str:
        return self.excluded[image].get(column) or f"{self.columns[column][image]:.4g}"


def measure(
    model: Callable[[Tensor], Tensor] | Replica,
    images: Images,
    map: Attribution | Tensor | np.ndarray,
    metrics: Sequence[Metric] | Metric = ("insertion", "deletion"),
    targets: Targets | None = None,
    *,
    boxes: Boxes | Sequence[Boxes] | None = None,
    masks: Mask | Sequence[Mask] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Measured:
    """The numbers of a map of each image under some metrics.

    Args:
        model, images: as in `ssig.attribute`.
        map: an `Attribution`, or maps (B, H, W), or (H, W) for one image: one number for each pixel of the network's
            input, and the larger, the more for the target.
        metrics: names of `ssig.list_metrics()`, with options as on the command line (``insertion:steps=64``);
            ``./FILE.py:NAME``; a `MetricSpec`; or a function (`ssig.extend`).
        targets: as in `ssig.attribute`; by default those of the `Attribution`, else what the network predicts.
        boxes: of the object in each image (x0, y0, x1, y1), for metrics of localisation: a list for each image, or
            for one image its list alone. In pixels of the Pillow image, or of the tensor.
        masks: the area of the object, in place of boxes: (H, W), not 0 inside, for each image or for one alone.
        seed: of the random draws of metrics.
        device: as in `ssig.attribute`.

    Returns:
        The columns of all metrics, in the order of the metrics. A metric that explains images again has no number: a
        map does not say how it was made.

    Raises:
        UsageError: an unknown metric or option, maps of another shape than the images, or numbers that are not finite.
        ModelError: a target is not a class of the network.
    """
    network = network_of(model)
    batch = batch_of(images, network)
    maps = _maps(map, batch)
    known = map if isinstance(map, Attribution) else None
    if targets is None:
        targets = PREDICTED if known is None or known.explained is None else known.explained.targets
    wanted = targets_of(targets, len(batch), network)
    parsed = [_metric(metric) for metric in _listed(metrics)]
    placed = [_placed(k, images, batch, network, boxes, masks) for k in range(len(batch))]
    if isinstance(model, Replica) and device is not None:
        raise UsageError("device", str(device), "nothing, because a replica has its own")
    with replica_of(model, place_of(network, batch, device)) as replica:
        classes = settled(wanted, batch, replica.forward)

        def forward(points: Tensor) -> Tensor:
            logits = replica.forward(points)
            check_targets(classes, logits.shape[1])  # here, since a metric would look for them on the device
            return logits

        scores = _scores(known, classes)
        parts = [
            _computed(
                evaluation_of(
                    batch[span].to(replica.device),
                    maps[span],
                    classes[span],
                    forward,
                    network if isinstance(network, Model) else None,
                    scores.rows(span),
                    masks=tuple(area for _, area in placed[span]),
                    boxes=tuple(found for found, _ in placed[span]),
                    batch=max(_LEAST_POINTS, replica.micro_batch),
                    seed=seed,
                    values=None if known is None else known.values[span].float().cpu(),
                ),
                parsed,
            )
            for span in (slice(start, start + _CHUNK) for start in range(0, len(batch), _CHUNK))
        ]
    return _joined(parts, [spec for spec, _ in parsed])


def _listed(metrics: Sequence[Metric] | Metric) -> list[Metric]:
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]  # type: ignore[list-item]


def _metric(metric: Metric) -> tuple[MetricSpec, Any]:
    """A metric and its options."""
    name, options = with_options("metrics", metric) if isinstance(metric, str) else (metric, {})
    spec = METRICS.entry_of(name)
    return spec, spec.parse(options)


def _maps(given: object, images: Tensor) -> Tensor:
    """(B, H, W) float32 on the CPU."""
    values = given.map if isinstance(given, Attribution) else given
    try:
        maps = torch.as_tensor(values).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError("map", type(given).__name__, "an Attribution, a tensor or an array") from None
    maps = maps.unsqueeze(0) if maps.ndim == 2 else maps
    shape = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != shape:
        allowed = f"maps {shape}, one number for each pixel; sum over the channels where there are any"
        raise UsageError("map", tuple(maps.shape), allowed)
    if not bool(maps.isfinite().all()):
        raise UsageError("map", "numbers that are not finite", "finite numbers")
    return maps


def _scores(known: Attribution | None, targets: Tensor) -> Scores:
    """Of an attribution the scores, where they are those of the same targets."""
    explained = None if known is None else known.explained
    if known is None or explained is None or not torch.equal(explained.targets, targets):
        return Scores()
    residual = known.completeness_residual
    return Scores(known.score.cpu(), known.baseline_score.cpu(), None if residual is None else residual.cpu())


def _placed(
    index: int,
    images: object,
    batch: Tensor,
    network: object,
    boxes: Boxes | Sequence[Boxes] | None,
    masks: Mask | Sequence[Mask] | None,
) -> tuple[tuple[Box, ...] | str, np.ndarray | str]:
    """One image's boxes and the area of its object, in the network's input; or why there are none."""
    size = (int(batch.shape[-2]), int(batch.shape[-1]))
    pictures = pictures_of(images)
    crop = (0.0, 0.0, float(size[1]), float(size[0]))
    if pictures and isinstance(network, Model):
        crop = network.geometry.crop_box(*pictures[index].size)
    inside = _boxes(_one(boxes, index, len(batch), "boxes", _is_box_list), crop, size)
    mask = _one(masks, index, len(batch), "masks", _is_mask)
    if mask is not None:
        array = np.asarray(mask)
        expected = pictures[index].size[::-1] if pictures else size
        if array.shape[:2] != tuple(expected):
            raise UsageError("masks", array.shape, f"a mask {tuple(expected)} for image {index}")
        area = mask_to_input(np.asarray(array.reshape(*expected, -1).any(axis=-1)), crop, size)
        return inside, area if area.any() else OUTSIDE
    if isinstance(inside, str):
        return inside, inside
    area = area_of(inside, size)
    return inside, area if area.any() else TOO_SMALL


def _boxes(given: Any, crop: Box, size: tuple[int, int]) -> tuple[Box, ...] | str:
    if not given:
        return NO_OBJECT
    edges = []
    for box in given:
        try:
            x0, y0, x1, y1 = (float(edge) for edge in box)
        except (TypeError, ValueError):
            raise UsageError("boxes", box, "four edges (x0, y0, x1, y1)") from None
        edges.append(to_input((x0, y0, x1, y1), crop, size))
    return tuple(box for box in edges if box is not None) or OUTSIDE


def _one(given: Any, index: int, count: int, field: str, alone: Callable[[Any], bool]) -> Any:
    """What belongs to one image, of what is given for each image, or for one alone."""
    if given is None:
        return None
    if count == 1 and alone(given):
        return given
    if len(given) != count:
        raise UsageError(field, f"{len(given)}", f"{field} for each of the {count} images")
    return given[index]


def _is_box_list(given: Any) -> bool:
    return len(given) == 0 or np.ndim(given[0]) == 1


def _is_mask(given: Any) -> bool:
    return isinstance(given, Image.Image) or np.ndim(given) == 2


def _computed(evaluation: Evaluation, parsed: Sequence[tuple[MetricSpec, Any]]) -> list[MetricResult]:
    return [spec.compute(evaluation, options) for spec, options in parsed]


def _joined(parts: Sequence[Sequence[MetricResult]], specs: Sequence[MetricSpec]) -> Measured:
    """The results of consecutive images, metric by metric."""
    columns: dict[str, np.ndarray] = {}
    curves: dict[str, np.ndarray] = {}
    directions: dict[str, str] = {}
    excluded: list[dict[str, str]] = []
    for results in parts:
        count = len(next(iter(results[0].columns.values()))) if results else 0
        reasons = [dict[str, str]() for _ in range(count)]
        for result in results:
            for mine, theirs in zip(reasons, result.excluded, strict=False):
                mine.update(theirs)
        excluded += reasons
    for position, spec in enumerate(specs):
        directions |= spec.columns
        results = [part[position] for part in parts]
        columns |= {name: np.concatenate([one.columns[name] for one in results]) for name in results[0].columns}
        curves |= {name: np.concatenate([one.curves[name] for one in results]) for name in results[0].curves}
    return Measured(columns, directions, curves, tuple(excluded))
