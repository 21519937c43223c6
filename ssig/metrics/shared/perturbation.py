"""Changed images and their scores: the references that replace pixels, and the streamed evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import pad

from ssig.images.blur import convolve, gaussian_blur
from ssig.types import Evaluation

REFERENCES = ("blur", "rise-blur", "mean", "black", "white", "minimum")
SCORES = ("probability", "logit")
_OF_THE_IMAGE = ("blur", "rise-blur", "minimum")  # the references that depend on the image

# (image, m steps) -> (m, C, H, W), on the device of the images: one image, changed as at each of these steps.
Build = Callable[[int, range], Tensor]

_RISE_SIZE, _RISE_SIGMA = 11, 5.0


def per_channel(values: Tensor, images: Tensor) -> Tensor:
    """(C,) as (1, C, 1, 1), with the type and device of the images."""
    return values.to(images).view(1, -1, 1, 1)


def reference(evaluation: Evaluation, kind: str, blur_sigma: float, blur_kernel: int) -> Tensor:
    """The images (B, C, H, W) whose pixels stand in for the hidden ones; made once per batch.

    ``blur`` is torchvision's `gaussian_blur`: a Gaussian cut off at the kernel's edge, reflected borders.
    ``rise-blur`` is RISE's substrate: its kernel on normalised pixels, with borders of normalised zeros.
    ``mean`` is the colour that normalises to zero; ``black`` and ``white`` are 0 and 1 in pixel space.
    ``minimum`` is the image's lowest value over all pixels and channels, in pixel space: one grey per image.
    """
    images = evaluation.images

    def compute() -> Tensor:
        mean = per_channel(evaluation.mean, images)
        if kind == "blur":
            return gaussian_blur(images, blur_sigma, blur_kernel)
        if kind == "rise-blur":
            # Blurring is linear in each channel, so dividing by the standard deviation and back cancels.
            return mean + convolve(pad(images - mean, [_RISE_SIZE // 2] * 4), rise_kernel())
        if kind == "minimum":
            return images.amin(dim=(1, 2, 3), keepdim=True).expand_as(images)
        colour = {"mean": mean, "black": torch.zeros_like(mean), "white": torch.ones_like(mean)}[kind]
        return colour.expand_as(images)

    return evaluation.of_images(("reference", *reference_key(kind, blur_sigma, blur_kernel)), compute)


def reference_key(kind: str, blur_sigma: float, blur_kernel: int) -> tuple[str | float, ...]:
    """What the reference depends on: only a blur has a width."""
    return (kind, blur_sigma, blur_kernel) if kind == "blur" else (kind,)


def rise_kernel() -> np.ndarray:
    """(11,) float64; its outer product with itself is RISE's blur, a delta under SciPy's Gaussian filter of sigma 5.

    SciPy reflects the tails at the border of the 11 pixels, so the kernel is nearly flat.
    """
    delta = np.zeros(_RISE_SIZE)
    delta[_RISE_SIZE // 2] = 1.0
    weights: np.ndarray = gaussian_filter1d(delta, _RISE_SIGMA)
    return weights


def sweep(evaluation: Evaluation, rows: Tensor, steps: int, build: Build, score: str) -> np.ndarray:
    """Target score of every changed image: `sweep_scores` for one score, (n, steps) float64."""
    return sweep_scores(evaluation, rows, steps, build, (score,))[..., 0]


def sweep_scores(
    evaluation: Evaluation, rows: Tensor, steps: int, build: Build, scores: tuple[str, ...]
) -> np.ndarray:
    """Target scores of every changed image; only a batch of those images exists at a time.

    Images are built where the images of the evaluation are. Nothing is read back before the last batch, so that a
    device works on while the host goes on to the next batch.

    Args:
        evaluation: the batch.
        rows: (n,) int64, which of its images to change, ascending.
        steps: number of changed images of each.
        build: makes the changed images.
        scores: of ``probability`` (softmax, in float64), ``logit`` and ``accuracy`` (1 where the target is predicted).

    Returns:
        (n, steps, scores) float64.
    """
    pairs = len(rows) * steps
    parts = [torch.empty(0, len(scores), dtype=torch.float64)]
    targets = evaluation.targets[rows].repeat_interleave(steps).to(evaluation.images.device, non_blocking=True)
    for begin in range(0, pairs, evaluation.batch):
        end = min(begin + evaluation.batch, pairs)
        # Image by image, so that an image is broadcast over its steps and not copied for each.
        points = torch.cat([build(int(rows[place]), span) for place, span in _spans(begin, end, steps)])
        logits = evaluation.forward(points).double()
        of_batch = targets[begin:end].to(logits.device)
        parts.append(torch.stack([_score(logits, of_batch, score) for score in scores], dim=1))
    on_device = parts[1:] or parts
    return torch.cat(on_device).cpu().view(len(rows), steps, len(scores)).numpy()


def _spans(begin: int, end: int, steps: int) -> Iterator[tuple[int, range]]:
    """The pairs of an image and a step from number `begin` to `end`: place of the image, and which of its steps."""
    for place in range(begin // steps, -(-end // steps)):
        yield place, range(max(begin - place * steps, 0), min(end - place * steps, steps))


def reference_scores(evaluation: Evaluation, kind: str, blur_sigma: float, blur_kernel: int, score: str) -> np.ndarray:
    """(B,) float64, target score of the references of `reference`; a colour is evaluated once for all images."""

    def compute() -> Tensor:
        points = reference(evaluation, kind, blur_sigma, blur_kernel)
        return evaluation.forward(points if kind in _OF_THE_IMAGE else points[:1]).cpu()

    logits = evaluation.of_images(("reference logits", *reference_key(kind, blur_sigma, blur_kernel)), compute)
    return _score(logits.double().expand(len(evaluation), -1), evaluation.targets.cpu(), score).numpy()


def image_scores(evaluation: Evaluation, score: str) -> np.ndarray:
    """(B,) float64, target score of the images themselves."""
    return _score(evaluation.image_logits().double(), evaluation.targets.cpu(), score).numpy()


def _score(logits: Tensor, targets: Tensor, score: str) -> Tensor:
    """(n,) float64, of logits (n, classes) float64 and targets (n,) on one device."""
    if score == "accuracy":
        predicted = torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        scores = torch.where(logits.isfinite().all(dim=1, keepdim=True), predicted, torch.nan)
    else:
        scores = logits.softmax(dim=1) if score == "probability" else logits
    return scores.gather(1, targets[:, None])[:, 0]
