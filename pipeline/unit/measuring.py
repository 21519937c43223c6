"""Metrics of a unit, from its maps as they are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.run.maps import decode_maps, decode_values
from pipeline.run.publishing import DamagedTableError
from pipeline.shards.samples import Status
from pipeline.unit.inputs import Prepared
from pipeline.unit.tables import Measured, merged
from ssig.engine.device import Device
from ssig.models import Model
from ssig.options import build
from ssig.registry import METRICS, MetricSpec
from ssig.types import Attribution, Evaluation, Explainer, Memo, Scores, evaluation_of

# Images measured at once: enough to fill micro-batches, few enough for frequent progress. On a device a chunk of 16 is
# small: 10 MB of images of 224 x 224 pixels, as much again for each reference that replaces pixels.
CHUNK = 16
# The shortest sweeps have about so many changed images of each image.
SWEEP_STEPS = 18
# A sweep ends in a micro-batch that is not full: where it is this many at least, that costs an eighth at most.
SWEEP_BATCHES = 4
# Points that a metric makes at a time: several micro-batches where those are small.
LEAST_POINTS = 64
# Columns of the attributions that metrics compare with.
SCORES = ("score", "baseline_score", "completeness_residual")

# (images, targets, the images' shards and keys) -> the method under evaluation, for them.
Explain = Callable[[Tensor, Tensor, tuple[tuple[str, str], ...]], Explainer]


@dataclass(frozen=True)
class Measuring:
    """Measures maps of units on one device.

    Attributes:
        device: the network.
        model: the same, for its normalisation.
        seed: of the run.
        tidy: called after each metric, which leaves freed blocks of many sizes behind.
    """

    device: Device
    model: Model
    seed: int
    tidy: Callable[[], None] = lambda: None

    def measure(
        self,
        metrics: Mapping[str, Mapping[str, Any]],
        prepared: Prepared,
        attributions: pa.Table,
        attribution: Attribution | None = None,
        advance: Callable[[int], None] = lambda count: None,
        explain: Explain | None = None,
    ) -> Measured:
        """Every metric of the rows that the attributions call ok, from the maps as they are stored.

        Args:
            metrics: metric -> its recorded options.
            prepared: the unit.
            attributions: its table.
            attribution: the source of the table, where the table stores no maps.
            advance: called with the number of images that were just measured.
            explain: gives the method, for the metrics that call it again.

        Raises:
            DamagedTableError: a row is ok and has no map.
        """
        ok = [row for row, status in enumerate(attributions["status"].to_pylist()) if status == Status.OK]
        at = {position: k for k, position in enumerate(prepared.ok)}
        samples = [at[position] for position in ok]
        # The class that the map explains: by rounding, another device may have predicted another one.
        targets = torch.tensor(attributions["target"].take(ok).to_pylist() if ok else [], dtype=torch.int64)
        maps = self._maps(attributions, attribution, samples)
        scores = Scores(*(column_values(attributions[name], ok) for name in SCORES))
        parsed = [(METRICS[name], metric_options(name, recorded)) for name, recorded in metrics.items()]
        values = None
        if any("values" in spec.needs for spec, _ in parsed):
            values = self._values(attributions, attribution, samples)
        parts = []
        chunk = chunk_of(self.device.replica.micro_batch)
        for start in range(0, len(samples), chunk):
            span = slice(start, start + chunk)
            evaluation = self._evaluation(
                prepared, samples[span], targets[span], maps[span], scores.rows(span), explain
            )
            if values is not None:
                evaluation = replace(evaluation, values=torch.from_numpy(values[span]))
            parts.append(_measured(evaluation, parsed, self.device.clock, self.tidy))
            advance(len(evaluation))
        return merged(parts)

    def _maps(self, attributions: pa.Table, attribution: Attribution | None, samples: Sequence[int]) -> np.ndarray:
        """(n, H, W) float32, of the rows that are ok."""
        if "map" in attributions.schema.names:
            maps = decode_maps(_ok(attributions))
            if len(maps) != len(samples):
                raise DamagedTableError("a row of the attributions is ok and has no map")
            return maps
        if attribution is not None:
            computed: np.ndarray = attribution.map.float().numpy()[list(samples)]
            return computed
        return np.zeros((0, *self.model.input_size), dtype=np.float32)

    def _values(
        self, attributions: pa.Table, attribution: Attribution | None, samples: Sequence[int]
    ) -> np.ndarray | None:
        """(n, C, H, W) float32, of the rows that are ok; None where only the readout was kept."""
        if "values" in attributions.schema.names:
            return decode_values(_ok(attributions))
        if attribution is None or not attribution.values.numel():
            return None
        computed: np.ndarray = attribution.values.float().numpy()[list(samples)]
        return computed

    def _evaluation(
        self,
        prepared: Prepared,
        rows: Sequence[int],
        targets: Tensor,
        maps: np.ndarray,
        scores: Scores,
        explain: Explain | None,
    ) -> Evaluation:
        """The evaluation of some of a unit's ok samples."""
        memo = prepared.image_memos.setdefault((*rows, *targets.tolist()), Memo())
        images = self._placed(prepared.images[list(rows)], memo)
        keys = tuple(prepared.identity(row) for row in rows)
        return evaluation_of(
            images,
            torch.from_numpy(maps),
            targets,
            self.device.forward,
            self.model,
            scores,
            masks=tuple(prepared.masks[row] for row in rows),
            logits=prepared.logits[list(rows)],
            batch=max(LEAST_POINTS, self.device.replica.micro_batch),
            boxes=tuple(prepared.boxes[row] for row in rows),
            keys=keys,
            seed=self.seed,
            explainer=None if explain is None else explain(images, targets, keys),
            activations=self.device.activations,
            _of_images=memo,
        )

    def _placed(self, images: Tensor, memo: Memo) -> Tensor:
        """Images on the device that evaluates them, moved once for all methods of a unit."""
        device = self.device.replica.device
        return images if images.device == device else memo(("images on the device",), lambda: images.to(device))


def chunk_of(micro_batch: int) -> int:
    """Images that are measured at once, so that the sweeps of a device with large micro-batches fill several."""
    return max(CHUNK, math.ceil(SWEEP_BATCHES * micro_batch / SWEEP_STEPS))


def metric_options(name: str, recorded: Mapping[str, Any]) -> Any:
    """A metric's options, from its configuration."""
    return build(METRICS[name].options, recorded, where=f"metrics.{name}")


def _ok(attributions: pa.Table) -> pa.Table:
    return attributions.filter(pc.equal(attributions["status"], Status.OK.value))


def column_values(column: pa.ChunkedArray, rows: list[int]) -> Tensor | None:
    """Some rows of a column, NaN where it is null; None where all are."""
    values = column.take(rows) if rows else column.slice(0, 0)
    return None if rows and values.null_count == len(rows) else torch.from_numpy(values.to_numpy().copy())


def _measured(
    evaluation: Evaluation,
    metrics: Sequence[tuple[MetricSpec, Any]],
    clock: Callable[[], float],
    tidy: Callable[[], None],
) -> Measured:
    measured = Measured(excluded=[{} for _ in range(len(evaluation))])
    for spec, options in metrics:
        started = clock()
        result = spec.compute(evaluation, options)
        seconds = (clock() - started) / len(evaluation)
        measured.seconds[spec.name] = np.full(len(evaluation), seconds)
        measured.columns.update(result.columns)
        measured.lists.update(result.curves)
        measured.lists.update(result.vectors)
        for mine, theirs in zip(measured.excluded, result.excluded, strict=False):
            mine.update(theirs)
        tidy()
    return measured
