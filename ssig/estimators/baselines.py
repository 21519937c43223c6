"""Baselines `x'`: the reference that stands for "no information".

mean     the network's normalisation mean, per channel (zero after normalisation)
black    0        white  1
blur     Gaussian blur of the image, sigma 10 px, cut to 31 px, borders reflected
uniform  i.i.d. U(0, 1) per pixel and channel, from the image's own stream
a list   one value per channel
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.draws import uniforms
from ssig.images.blur import gaussian_blur
from ssig.randomness import BASELINE_SAMPLE, Stream

BASELINES = ("mean", "black", "white", "blur", "uniform")
BLUR_SIGMA, BLUR_KERNEL = 10.0, 31
# Mid grey stands in for an unknown normalisation mean.
UNKNOWN_MEAN = 0.5


def baselines(kind: str | tuple[float, ...], images: Tensor, mean: Tensor, streams: tuple[Stream, ...]) -> Tensor:
    """The baseline of each image, (B, C, H, W).

    Args:
        kind: one of `BASELINES`, or a value per channel.
        images: (B, C, H, W).
        mean: (C,) normalisation mean of the network, in pixel space.
        streams: source of randomness of each image, used by `uniform`.

    Raises:
        UsageError: a list whose length is not the number of channels.
    """
    channels = images.shape[1]
    if isinstance(kind, tuple):
        if len(kind) != channels:
            raise UsageError("baseline", list(kind), f"one value for each of the {channels} channels")
        return _constant(images, images.new_tensor(kind))
    if kind == "mean":
        return _constant(images, mean.to(images).expand(channels))
    if kind == "black":
        return torch.zeros_like(images)
    if kind == "white":
        return torch.ones_like(images)
    if kind == "blur":
        return gaussian_blur(images, BLUR_SIGMA, BLUR_KERNEL)
    if kind == "uniform":
        return uniforms(streams, [BASELINE_SAMPLE], tuple(images.shape[1:]), images)[0].to(images.dtype)
    raise UsageError("baseline", kind, BASELINES)


def _constant(images: Tensor, values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1).expand_as(images).contiguous()
