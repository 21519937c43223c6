"""`ssig init`: a job file with a comment at every field, to be filled in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ssig.errors import DONE, UsageError

TEMPLATE = """\
# A job of ssig. Change what you need, then type
#   ssig attribute {command}
# Type the same again to resume a stopped run. `ssig attribute --help` lists the options that override this file.
# Relative paths start from the folder of this file.

dataset:
  # Tar files with your images. `ssig pack FOLDER --out shards` makes them from one folder per class.
  shards: ["shards/*.tar"]
  limit: null # only the first N images, such as 20 for a trial; null for all

model:
  # A network by name: efficientnet-lite0, timm:NAME or torchvision:NAME. Your own: ./mynet.py:network
  name: efficientnet-lite0
  weights: null # null for its own weights; random; or a checkpoint: FILE.pt, FILE.safetensors
  precision: fp32 # fp32, tf32, fp16 or bf16
  score: logit # what is explained: logit, log-probability or probability
  target: label # the class that is explained: label, predicted, or a class number

# `ssig methods` lists all methods; `ssig methods ig` shows the options of one.
methods:
  - ssig
  - ig
  - {{name: smoothgrad, samples: 32}}
  - random # a control: what a map without information scores

# `ssig metrics` lists all metrics; `ssig metrics insertion` shows the options of one.
metrics: [insertion, deletion]

output:
  path: runs/first # a folder; s3:// and gs:// work too
  maps: float16 # none, float16 or float32

actors: # where the work is done; changes no result
  executor: ray # or local: one process, without Ray
  max: auto # a number limits the worker processes

seed: 0
"""


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file to write.")] = Path("job.yaml"),
) -> int:
    """Write a job file with comments, to fill in."""
    file = file.expanduser()
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(TEMPLATE.format(command=shlex.quote(file.name)))
    except FileExistsError:
        raise UsageError("FILE", str(file), "a file that does not exist yet (type `ssig init OTHER.yaml`)") from None
    except FileNotFoundError:
        raise UsageError("FILE", str(file), "a file in a folder that exists") from None
    print(f"{file} is written. Fill in dataset.shards, then type: ssig attribute {shlex.quote(str(file))}")
    return DONE
