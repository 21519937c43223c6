"""`ssig pack`: images to shards."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.job_options import Boxes, Labels, Masks
from jobs.commands.wrong_use import named_as_typed

_OPTIONS = {
    "dataset.images": "SRC",
    "dataset.labels": "--labels",
    "dataset.boxes": "--boxes",
    "dataset.masks": "--masks",
    "csv": "--csv",
    "synsets": "--synsets",
    "out": "--out",
    "shard_size": "--shard-size",
}


def pack(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Folder with one folder of images per class, any folder of images with --labels, or Parquet files of "
            "a Hugging Face dataset.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write the shards to: a path, s3:// or gs://.")],
    labels: Labels = None,
    boxes: Boxes = None,
    masks: Masks = None,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Pack images that have no class, too.")] = False,
    shard_size: Annotated[int, typer.Option(metavar="N", help="Images per shard.")] = 1000,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="LOC_val_solution.csv: classes and boxes of the ILSVRC images.")
    ] = None,
    synsets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Line i begins with the name of class i."),
    ] = None,
) -> int:
    """Pack images into WebDataset shards."""
    from pipeline.shards.presence import require_data

    with named_as_typed(_OPTIONS):
        require_data(source, labels, boxes, masks)
        from pipeline.shards.own_data import OwnData
        from pipeline.shards.pack import pack as pack_images

        data = OwnData.at(source, labels, boxes, masks)
        shards = pack_images(
            data,
            os.path.expanduser(out),
            shard_size=shard_size,
            csv=csv,
            synsets=synsets,
            labelled=not no_labels,
            tell=lambda note: print(note, file=sys.stderr),
        )
    print(*shards, sep="\n")
    return 0
