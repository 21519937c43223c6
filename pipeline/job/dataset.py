"""The data of a job: shards, or images that are packed into some, with their classes, boxes and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from pipeline.job.choices import Frozen
from pipeline.storage.base import check_url, is_url
from ssig.errors import NOTHING, UsageError

BESIDE_IMAGES = ("labels", "boxes", "masks", "shards_out")


class Dataset(Frozen):
    """What is attributed."""

    shards: tuple[str, ...] = Field(
        (),
        min_length=1,
        description="WebDataset shards: paths or URLs, brace and glob patterns; needed where there are no images",
    )
    images: str | None = Field(
        None,
        min_length=1,
        description="in place of shards: a folder of images, or Parquet files; packed once, into the run",
    )
    labels: str | None = Field(None, min_length=1, description="CSV of two columns: image and class; with images")
    boxes: str | None = Field(None, min_length=1, description="COCO annotations; with images")
    masks: str | None = Field(None, min_length=1, description="folder of PNG files, named as the images; with images")
    shards_out: str | None = Field(
        None, min_length=1, description="where images are packed: a path or URL; by default RUN/shards"
    )
    limit: int | None = Field(None, ge=1, lt=2**63, strict=True, description="only the first n samples")


def drop_other_data(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Forgets the shards of a job file where images are given in their place, and the other way round.

    Args:
        values: the content of the file, changed in place.
        given: dotted fields that override it.
    """
    dataset = values.get("dataset")
    names = {field.partition(".")[2] for field in given if field.startswith("dataset.")}
    if isinstance(dataset, dict) and len(names & {"shards", "images"}) == 1:
        for name in ("shards",) if "images" in names else ("images", *BESIDE_IMAGES):
            dataset.pop(name, None)


def resolve_images(dataset: dict[str, Any], absolute: Callable[[Any], Any]) -> None:
    """Makes the paths beside `images` absolute, in place.

    Raises:
        UsageError: a URL in place of a path on this machine, or a malformed one.
    """
    for name in ("images", *BESIDE_IMAGES):
        value = dataset.get(name)
        if isinstance(value, str) and name == "shards_out":
            check_url(f"dataset.{name}", value)
        elif isinstance(value, str) and is_url(value):
            raise UsageError(f"dataset.{name}", value, "a path on this machine; in an object store, name shards")
        if name in dataset:
            dataset[name] = absolute(value)


def check_dataset(dataset: Dataset, file: str | None) -> None:
    """Refuses a job without data, or with data of two kinds.

    Args:
        dataset: of the job.
        file: name of the job file; None where there is none.

    Raises:
        UsageError: fields ``dataset.shards``, ``dataset.images`` and those beside it.
    """
    prefix = "dataset." if file is None else f"{file}: dataset."
    if dataset.images is not None and dataset.shards:
        found = f"{dataset.images} together with shards"
        raise UsageError(f"{prefix}images", found, "either images or shards: leave one of them out")
    if dataset.images is not None:
        return
    for name in BESIDE_IMAGES:
        if (value := getattr(dataset, name)) is not None:
            allowed = "only beside images (--images DIR): shards hold their own classes, boxes and masks"
            raise UsageError(f"{prefix}{name}", value, allowed)
    if not dataset.shards:
        allowed = "a list of texts, not empty; or images: a folder of images"
        raise UsageError(f"{prefix}shards", NOTHING, allowed)
