"""Occlusion: by how much the score falls when a square of the image is replaced by the baseline.

    z_p = mean over the squares s that cover p of  f_y(x) - f_y(x with x' in s)

Source: Zeiler, Fergus, *Visualizing and Understanding Convolutional Networks* (2014), whose grey square is the
baseline of the normalisation mean. The paper maps each square's fall to the square's place; as in Captum, a pixel here
has the mean of its squares. Squares begin at every `stride`-th row and column, and the last of them end with the
image. An image of 224 x 224 pixels has 81 squares by default, which take about the time of 32 gradients, and one
forward evaluation for each of them. `preset: captum` are the settings of Captum's tutorial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, scores_of
from ssig.estimators.transfer import to_device
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps, differs

# Pixels of an image's side, for the listed cost.
LISTED_SIZE = 224


@dataclass(frozen=True)
class OcclusionOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    window: int = option(32, "side of the square, in pixels", at_least=1)
    stride: int = option(24, "pixels from a square to the next, a forward evaluation each", at_least=1)

    def __post_init__(self) -> None:
        if self.stride > self.window:
            raise UsageError("stride", self.stride, f"at most window ({self.window}), so that no pixel is left out")


def occlusion(group: Group, options: OcclusionOptions) -> Steps:
    scores = yield from endpoints(group)
    images = group.images
    down, across = (spans(size, options.window, options.stride) for size in images.shape[-2:])
    places = [(row, column) for row in range(len(down)) for column in range(len(across))]
    falls: list[Tensor] = []
    for first in range(0, len(places), group.budget):
        rows, columns = zip(*places[first : first + group.budget], strict=True)
        vertical, horizontal = (
            to_device(down[list(rows)], images.device),
            to_device(across[list(columns)], images.device),
        )
        covered = vertical[:, None, None, :, None] & horizontal[:, None, None, None, :]
        points = torch.where(covered, group.baselines, images).flatten(0, 1)
        response = yield Request(points, group.owners(len(rows)), want=SCORE)
        fall = scores[0] - scores_of(response).view(len(rows), -1)
        changed = differs(points, torch.cat([images] * len(rows))).view_as(fall)
        falls.append(torch.where(changed, fall, 0))
    fallen = torch.cat(falls).T.reshape(len(group), len(down), len(across))
    maps = spread(fallen, *(to_device(lines.to(images.dtype), images.device) for lines in (down, across)))
    return attribution(
        (maps / images.shape[1]).unsqueeze(1).expand_as(images),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=0,
    )


def spread(falls: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The mean over the squares that cover each pixel, (B, H, W).

    Args:
        falls: (B, rows, columns), one number a square.
        down, across: (rows, H) and (columns, W), 1 where a square covers a row or a column of pixels, else 0.
    """
    total = down.T @ falls @ across
    return total / torch.outer(down.sum(dim=0), across.sum(dim=0))


def spans(size: int, window: int, stride: int) -> Tensor:
    """Which of `size` pixels each window covers, (windows, size) bool on the CPU; the last windows may be cut."""
    starts = torch.arange(count(size, window, stride)).unsqueeze(1) * stride
    pixels = torch.arange(size)
    return (pixels >= starts) & (pixels < starts + window)


def count(size: int, window: int, stride: int) -> int:
    """How many windows cover `size` pixels."""
    return math.ceil(max(size - window, 0) / stride) + 1


METHODS.add(
    MethodSpec(
        name="occlusion",
        run=occlusion,
        options=OcclusionOptions,
        paper="Zeiler, Fergus 2014",
        equation="mean over the squares that cover a pixel of f(x) - f(x with x' in the square)",
        evaluations=lambda options: 0,
        forwards=lambda options: count(LISTED_SIZE, options.window, options.stride) ** 2,
        complete=False,
        presets={"captum": {"window": 15, "stride": 8}},
    )
)
