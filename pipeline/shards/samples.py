"""The rows that flow between the parts of the pipeline: statuses, manifest rows, units, decoded samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from PIL import Image


class Status(StrEnum):
    """What became of a sample. All but `ok` carry an error and null numbers."""

    OK = "ok", "the map was made"
    UNDECODABLE = "undecodable", "the image cannot be read"
    NO_LABEL = "no_label", "the shard gives no class, and the job explains the label"
    BAD_LABEL = "bad_label", "the class is not a whole number, or the network does not have it"
    BAD_BOXES = "bad_boxes", "only in old runs: the boxes cannot be used; now only the metrics that need them are null"
    NONFINITE = "nonfinite", "the network or the map has a number that is not finite"
    TRUNCATED = "truncated", "the shard ends within the sample"
    DUPLICATE = "duplicate", "the shard has a second file of the same name"
    TIMEOUT = "timeout", "the sample held up its worker"
    QUARANTINED = "quarantined", "the sample broke its worker"

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Status:
        status = str.__new__(cls, value)
        status._value_ = value
        status.meaning = meaning
        return status


@dataclass(frozen=True)
class Member:
    """One file of a sample in its shard: extension in lower case (``jpg``, ``mask.png``) and payload range."""

    extension: str
    offset: int
    size: int


@dataclass(frozen=True)
class ManifestRow:
    """One expected sample. `index` counts the samples of the shard from 0, in order of first appearance.

    `status` is `ok` unless reading the tar already settled the sample (`truncated`, `duplicate`); then `error`
    says what and where. `label` is the integer of the ``cls`` member, None if it is absent or no integer.
    """

    unit: str
    shard: str
    index: int
    key: str
    label: int | None
    status: Status
    error: str | None
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Unit:
    """A slice of at most `unit_size` consecutive samples of one shard: what is done or not done under each label."""

    shard_ordinal: int
    shard: str
    start: int
    stop: int

    @property
    def id(self) -> str:
        return f"{self.shard_ordinal:06d}-{self.start:06d}-{self.stop:06d}"


@dataclass(frozen=True)
class Poison:
    """Why a sample is kept from the network: it was found to kill it, to break it, or to hold it up."""

    reason: str
    status: Status = Status.QUARANTINED


@dataclass(frozen=True)
class Sample:
    """A decoded sample. Where `status` is not `ok`, `error` says why and only what could be read is there.

    Attributes:
        row: its manifest row.
        status, error: what decoding found.
        image: RGB, as stored (no EXIF rotation); None where undecodable.
        boxes: object boxes (x0, y0, x1, y1) in original pixels; None where the shard gives none.
        mask: (height, width) bool segmentation in original pixels; None where the shard gives none.
        boxes_fault, mask_fault: why what the shard gives of them cannot be used; the sample is `ok` all the same.
        wnid: WordNet id of the class, where the shard gives it.
    """

    row: ManifestRow
    status: Status = Status.OK
    error: str | None = None
    image: Image.Image | None = None
    boxes: tuple[tuple[float, float, float, float], ...] | None = None
    mask: np.ndarray | None = field(default=None, repr=False)
    wnid: str | None = None
    boxes_fault: str | None = None
    mask_fault: str | None = None
