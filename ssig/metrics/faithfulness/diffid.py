"""DiffID, pixel variant on the clipped ratio of softmax probabilities.

    Ins(r) = clip( p(k lowest pixels hidden) / p(x), 0, 1 ),  k = floor(r N),  r = .1, .2, .. , .9
    Del(r) = clip( p(k highest pixels hidden) / p(x), 0, 1 )
    diffid = mean_r [ Ins(r) - Del(r) ]

Hidden pixels take one value per image and game: the mean of the surviving pixels over all channels, in normalised
space. Yang et al., Local Path Integration for Attribution, AAAI 2023, which reports accuracy and logit ratio at each
r; the softmax ratio and the mean over r are this project's. A random map scores about 0. Higher is better.

`diffid`, `diffid_accuracy`, `diffid_element` and `diffid_channels` share the two games below; the first two also their
evaluations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.perturbation import image_scores, per_channel, sweep_scores
from ssig.metrics.shared.ranking import InOrder, Order, OrderOptions, in_orders, ranks
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

RATIOS = 9  # tenths of the pixels, from one to nine
_GAMES = 2  # insertion, deletion
_SCORES = ("probability", "logit", "accuracy")  # of one evaluation, so that metrics which differ in them share it


@dataclass(frozen=True)
class DiffidOptions(OrderOptions):
    """DiffID's protocol is fixed but for the order."""


def diffid(evaluation: Evaluation, options: DiffidOptions) -> MetricResult:
    """DiffID by pixels, in the order of the map and of its magnitude."""
    return diffid_result("diffid", games(evaluation, options, "probability"), evaluation, options)


def forwards(options: OrderOptions) -> int:
    """Forward evaluations per image of a signed map."""
    return _GAMES * RATIOS * options.order_count


def diffid_columns(name: str) -> dict[str, str]:
    """Column -> better direction: DiffID, and its two games apart, in both orders."""
    games = {f"{name}_insertion": "higher", f"{name}_deletion": "lower"}
    return {name: "higher", f"{name}_abs": "higher", **games, **{f"{game}_abs": games[game] for game in games}}


def diffid_curves(name: str) -> tuple[str, str]:
    """The curves Ins(r) - Del(r) of both orders."""
    return f"{name}_curve", f"{name}_abs_curve"


def diffid_descriptions(name: str, value: str) -> dict[str, str]:
    """One line for each of these that the definition does not explain; `value` is what is left of the image."""
    return {
        f"{name}_insertion": f"mean over r of the {value} with the share r of lowest values hidden",
        f"{name}_deletion": f"mean over r of the {value} with the share r of highest values hidden",
        f"{name}_curve": f"{value} with the lowest hidden minus that with the highest hidden, at r = .1, .2, ..., .9",
    }


def diffid_result(name: str, survived: InOrder, evaluation: Evaluation, options: OrderOptions) -> MetricResult:
    """Means over r of the games `survived` (B, 2, 9), with the curves of their difference."""
    signed, absolute = (outcome[:, 0] - outcome[:, 1] for outcome in survived)
    signed_means, absolute_means = (outcome.mean(axis=2) for outcome in survived)
    values = (
        signed.mean(axis=1),
        absolute.mean(axis=1),
        signed_means[:, 0],
        signed_means[:, 1],
        absolute_means[:, 0],
        absolute_means[:, 1],
    )
    columns = dict(zip(diffid_columns(name), values, strict=True))
    missing = options.missing(
        signed=tuple(column for column in columns if not column.endswith("_abs")),
        absolute=tuple(column for column in columns if column.endswith("_abs")),
    )
    curves = dict(zip(diffid_curves(name), (signed, absolute), strict=True))
    return assemble(columns, [missing] * len(evaluation), curves)


def games(evaluation: Evaluation, options: OrderOptions, score: str, elements: bool = False) -> InOrder:
    """(B, 2, 9), what Ins(r) and Del(r) leave of the target's score.

    Args:
        evaluation: the batch.
        options: which orders.
        score: ``accuracy``, 0 or 1; ``probability``, relative to the image's, clipped to [0, 1]; or ``logit``,
            relative to the image's. NaN where the image's is 0.
        elements: hide each channel of a pixel by itself, and not whole pixels.
    """
    # One rank for all channels of a pixel; maps (B, C H, W), which hold the channels one below the other, rank each.
    height, width = evaluation.images.shape[-2:]
    shape = (len(evaluation), evaluation.maps.shape[1] // height, height, width)

    def play(rows: Tensor, order: Order) -> np.ndarray:
        lowest, highest = (ranks(evaluation, order, lowest).view(shape) for lowest in (True, False))
        if elements:
            lowest, highest = _of_elements(lowest, highest, evaluation.images.shape[1], order)
        return _play(evaluation, rows, torch.stack([lowest, highest]))

    key = ("diffid", "elements" if elements else "pixels")
    return InOrder(*(_survived(evaluation, scores, score) for scores in in_orders(evaluation, options, key, play)))


def _survived(evaluation: Evaluation, scores: np.ndarray, score: str) -> np.ndarray:
    changed = scores[..., _SCORES.index(score)]
    if score == "accuracy":
        return changed
    clean = image_scores(evaluation, score)[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(clean != 0, changed / clean, np.nan)
    return np.clip(ratio, 0.0, 1.0) if score == "probability" else ratio


def _of_elements(lowest: Tensor, highest: Tensor, channels: int, order: Order) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) each, ranks of the map's elements when it is repeated over channels; equal ones go by channel.

    Ties by place are those of references, in which lowest first is the reverse of highest first.
    """
    channel = torch.arange(channels, dtype=highest.dtype, device=highest.device).view(1, -1, 1, 1)
    last = channels - 1 - channel if order.ties == "raster" else channel
    return lowest * channels + last, highest * channels + channel


def _play(evaluation: Evaluation, rows: Tensor, ranked: Tensor) -> np.ndarray:
    """(n, 2, 9, scores) of the images `rows` in Ins(r) and Del(r).

    Args:
        evaluation: the batch.
        rows: (n,) int64.
        ranked: (2, B, 1, H, W) of pixels or (2, B, C, H, W) of elements, 0 for what Ins(r) and Del(r) hide first.
    """
    images = evaluation.images
    size = ranked.shape[2:].numel()
    hidden = torch.arange(1, RATIOS + 1, dtype=ranked.dtype, device=ranked.device) * size // 10
    fill = torch.stack([_survivor_means(evaluation, game, hidden) for game in ranked])
    mean, std = per_channel(evaluation.mean, images), per_channel(evaluation.std, images)

    def build(image: int, steps: range) -> Tensor:
        # Views of each game's steps: an index would be copied to the device first.
        return torch.cat([of_game(image, game, ratios) for game, ratios in _by_game(steps)])

    def of_game(image: int, game: int, ratios: slice) -> Tensor:
        hides = ranked[game, image] < hidden[ratios].view(-1, 1, 1, 1)
        return torch.where(hides, fill[game, image, ratios].view(-1, 1, 1, 1) * std + mean, images[image])

    changed = sweep_scores(evaluation, rows, _GAMES * RATIOS, build, _SCORES)
    return changed.reshape(-1, _GAMES, RATIOS, len(_SCORES))


def _by_game(steps: range) -> Iterator[tuple[int, slice]]:
    """Some consecutive steps of both games: each game's number and its ratios."""
    for game in range(_GAMES):
        first, last = max(steps.start - game * RATIOS, 0), min(steps.stop - game * RATIOS, RATIOS)
        if first < last:
            yield game, slice(first, last)


def _survivor_means(evaluation: Evaluation, ranked: Tensor, hidden: Tensor) -> Tensor:
    """(B, 9), mean over the elements of all channels whose rank is not below `hidden` (9,), in normalised space."""
    images = evaluation.images
    normalised = (images - per_channel(evaluation.mean, images)) / per_channel(evaluation.std, images)
    shared = images.shape[1] // ranked.shape[1]  # channels of one rank
    totals = normalised.double().reshape(*ranked.shape[:2], shared, ranked.shape[-2:].numel()).sum(dim=2).flatten(1)
    by_rank = torch.empty_like(totals).scatter_(1, ranked.flatten(1).long(), totals)
    sums = by_rank.flip(1).cumsum(dim=1).flip(1)  # of all from a rank on
    return (sums[:, hidden] / ((totals.shape[1] - hidden) * shared)).to(images)


METRICS.add(
    MetricSpec(
        name="diffid",
        compute=diffid,
        options=DiffidOptions,
        columns=diffid_columns("diffid"),
        curves=diffid_curves("diffid"),
        descriptions=diffid_descriptions("diffid", "probability kept"),
        definition="mean over r of the probability kept when the r lowest pixels are hidden minus the r highest",
        range="[-1, 1]",
        reference="Yang et al., Local Path Integration for Attribution, AAAI 2023",
        forwards=forwards,
        revision=1,
        needs=frozenset({"map", "model"}),
    )
)
