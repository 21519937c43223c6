"""From decoded samples to tensors: images, targets, masks and boxes, and the samples that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.run.labels import Label
from pipeline.shards.ahead import in_order
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import ManifestRow, Sample, Status
from pipeline.unit.messages import Task
from ssig.engine.device import Device
from ssig.models import Model
from ssig.models.geometry import area_of, as_input, mask_to_input, to_input
from ssig.models.scores import score
from ssig.types import NO_OBJECT, OUTSIDE, TOO_SMALL, Attribution, Box, Memo


@dataclass
class Outcome:
    """What is known of one sample before its attribution."""

    row: ManifestRow
    status: Status = Status.OK
    error: str | None = None
    label: int | None = None
    width: int | None = None
    height: int | None = None
    crop: tuple[float, float, float, float] | None = None


@dataclass
class Prepared:
    """A unit, ready for the device.

    Attributes:
        outcomes: one for each manifest row, in order.
        ok: (n,) positions of the samples that are ok, which the tensors below hold in order.
        images: (n, C, H, W) in [0, 1].
        masks: each one's object area (H, W), or why there is none.
        boxes: each one's boxes, clipped to the input, in its pixels, or why there are none.
        target_class: the class to explain, if the job gives one.
        logits, targets, predicted, probability: (n, classes) and (n,), set by `predict`; the probability is the
            target's.
        image_memos: positions and targets of images -> what metrics computed from these images, whatever the map.
    """

    outcomes: list[Outcome]
    ok: list[int]
    images: Tensor
    masks: tuple[np.ndarray | str, ...]
    boxes: tuple[tuple[Box, ...] | str, ...]
    target_class: int | None
    logits: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    targets: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    predicted: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    probability: Tensor = field(default_factory=lambda: torch.zeros(0))
    by_label: bool = False
    image_memos: dict[tuple[int, ...], Memo] = field(default_factory=dict)

    def predict(self, forward: Callable[[Tensor], Tensor]) -> None:
        """Fills predictions and targets from one forward pass."""
        if not self.ok:
            return
        self.logits = forward(self.images).cpu()
        probabilities = self.logits.double().softmax(dim=1)
        self.predicted = probabilities.argmax(dim=1)
        if self.by_label:
            self.targets = torch.tensor([self.outcomes[position].label for position in self.ok], dtype=torch.int64)
        elif self.target_class is not None:
            self.targets = torch.full((len(self.ok),), self.target_class, dtype=torch.int64)
        else:
            self.targets = self.predicted.clone()
        self.probability = probabilities.gather(1, self.targets.unsqueeze(1)).squeeze(1)

    def identity(self, k: int) -> tuple[str, str]:
        """Shard and key of ok sample number `k`, from which its random numbers follow."""
        row = self.outcomes[self.ok[k]].row
        return row.shard, row.key

    def scores(self, name: str) -> Tensor:
        """(n,), each image's target score, by its name."""
        return score(self.logits, self.targets, name)


@dataclass
class Unit:
    """A unit while it is worked on.

    Attributes:
        prepared: its samples.
        decode_seconds: what reading and decoding took.
        attributed: method label -> its attribution and the seconds it took, where not yet published.
    """

    prepared: Prepared
    decode_seconds: float
    attributed: dict[str, tuple[Attribution, float]] = field(default_factory=dict)


def read_task(task: Task, label: Label, model: Model, device: Device, threads: int = 0) -> Unit:
    """Reads, decodes and predicts the samples of a task.

    Args:
        task: what to read; poison is not decoded either, since that may kill the process.
        label: one of its labels; all have the same target.
        model: the network, for its preprocessing.
        device: predicts.
        threads: how many decode and resize, a few samples ahead; 0 for the calling thread.

    Raises:
        OSError: the shard cannot be read.
    """
    started = device.clock()
    target = label.settings.model.target
    by_label = target == "label"
    classes = label.config["model"]["classes"] if by_label else None
    samples = read_unit(task.url, without_poison(task), needs_label=by_label, classes=classes, threads=threads)
    prepared = prepare(samples, model, target, threads)
    prepared.predict(device.forward)
    return Unit(prepared, device.clock() - started)


def without_poison(task: Task) -> list[ManifestRow]:
    """A task's rows; those of poison have the status and the error that say why."""
    why = task.poison
    return [
        replace(row, status=why[row.index].status, error=why[row.index].reason) if row.index in why else row
        for row in task.rows
    ]


def prepare(samples: Iterable[Sample], model: Model, target: str | int, threads: int = 0) -> Prepared:
    """Preprocesses a unit's samples.

    Args:
        samples: one for each manifest row, in order.
        model: the network, for its preprocessing.
        target: ``label``, ``predicted`` or a class.
        threads: how many resize, a few samples ahead; 0 for the calling thread.
    """

    def fitted(sample: Sample) -> tuple[Sample, Image.Image | None]:
        if sample.status is not Status.OK or sample.image is None:
            return sample, None
        return sample, model.geometry.fit(sample.image)

    outcomes: list[Outcome] = []
    ok: list[int] = []
    images: list[Tensor] = []
    masks: list[np.ndarray | str] = []
    boxes: list[tuple[Box, ...] | str] = []
    for sample, image in in_order(fitted, samples, threads):
        outcome = Outcome(sample.row, sample.status, sample.error, sample.row.label)
        if sample.image is not None:
            outcome.width, outcome.height = sample.image.size
            outcome.crop = model.geometry.crop_box(*sample.image.size)
        if image is not None:
            ok.append(len(outcomes))
            images.append(as_input(image))
            boxes.append(_boxes(sample, outcome, model))
            masks.append(_object(sample, outcome, boxes[-1], model))
        outcomes.append(outcome)
    stacked = torch.stack(images) if images else torch.zeros((0, 3, *model.input_size))
    return Prepared(
        outcomes,
        ok,
        stacked,
        tuple(masks),
        tuple(boxes),
        target_class=target if isinstance(target, int) else None,
        by_label=target == "label",
    )


def _boxes(sample: Sample, outcome: Outcome, model: Model) -> tuple[Box, ...] | str:
    """A sample's boxes in the network's input, without those that lie outside of it."""
    if sample.boxes_fault is not None:
        return sample.boxes_fault
    if not sample.boxes or outcome.crop is None:
        return NO_OBJECT
    inside = (to_input(box, outcome.crop, model.input_size) for box in sample.boxes)
    return tuple(box for box in inside if box is not None) or OUTSIDE


def _object(sample: Sample, outcome: Outcome, boxes: tuple[Box, ...] | str, model: Model) -> np.ndarray | str:
    """The area of a sample's object in the network's input: its segmentation, else the union of its boxes."""
    if sample.mask_fault is not None:
        return sample.mask_fault
    if sample.mask is not None and outcome.crop is not None:
        area = mask_to_input(sample.mask, outcome.crop, model.input_size)
        return area if area.any() else OUTSIDE
    if isinstance(boxes, str):
        return boxes
    area = area_of(boxes, model.input_size)
    return area if area.any() else TOO_SMALL
