"""ROAD: the target score while the most, and the least, relevant pixels give way to noisy linear imputation.

    MoRF(p) = score( x with its floor(p N) highest pixels imputed ),  p = .1, .2, .. , .9
    LeRF(p) = score( x with its floor(p N) lowest pixels imputed )
    road_gap = mean_p [ LeRF(p) - MoRF(p) ]

Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022. The score is the
target's probability, and in the columns `road_accuracy` whether the target is predicted: `road_gap` is the gap of
probabilities, `road_accuracy_gap` that of accuracies, which papers table as "GAP". Imputed pixels solve the
linear system of `imputation.py` (on a device by `device_imputation.py`) and get noise N(0, sigma^2) in pixel space,
the same at each p for both games and for every map of an image; so turning a map round changes only the sign, and a
random map scores about 0. The authors' code pairs MoRF(p) with a LeRF that removes the share 1 - p, and breaks ties by
noise, one for the whole data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.faithfulness.device_imputation import impute_all
from ssig.metrics.faithfulness.imputation import impute
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.perturbation import sweep_scores
from ssig.metrics.shared.ranking import Order, OrderOptions, in_orders, ranks
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

_SCORES = ("probability", "accuracy")
# Numbers of images that a device solves for at once: 55 masks of 224 x 224 pixels, about 1.3 GB with what it works on.
_SOLVED_VALUES = 2**23

# Number of an image among those that are measured -> what MoRF, then LeRF hide of it at each p, (2 P, H, W) bool.
Hidden = Callable[[int], Tensor]
# The same -> the noise on its hidden pixels at each p, (C, H, W) float64.
Noise = Callable[[int], list[np.ndarray]]
_COLUMNS = {
    "road_gap": "higher",
    "road_gap_abs": "higher",
    "road_morf": "lower",
    "road_lerf": "higher",
    "road_accuracy_gap": "higher",
    "road_accuracy_gap_abs": "higher",
    "road_accuracy_morf": "lower",
    "road_accuracy_lerf": "higher",
}
_DESCRIPTIONS = {
    "road_gap": "mean over p of the probability with the lowest share p imputed minus that with the highest",
    "road_morf": "mean over p of the probability with the share p of highest pixels imputed",
    "road_lerf": "mean over p of the probability with the share p of lowest pixels imputed",
    "road_accuracy_gap": "mean over p of the accuracy with the lowest share p imputed minus that with the highest",
    "road_accuracy_morf": "mean over p of the accuracy with the share p of highest pixels imputed",
    "road_accuracy_lerf": "mean over p of the accuracy with the share p of lowest pixels imputed",
}


@dataclass(frozen=True)
class RoadOptions(OrderOptions):
    """Which shares of the image are imputed, and the noise on them."""

    percentages: tuple[float, ...] = option(
        (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0),
        "imputed pixels, in per cent of all",
        check=lambda values: None if all(0 < share < 100 for share in values) else "numbers between 0 and 100",
    )
    noise: float = option(0.01, "standard deviation of the noise on imputed pixels, in pixel space", at_least=0)

    def counts(self, pixels: int) -> tuple[int, ...]:
        """Number of imputed pixels, of so many, at each percentage."""
        return tuple(int(share * pixels / 100) for share in self.percentages)


def road(evaluation: Evaluation, options: RoadOptions) -> MetricResult:
    """ROAD in the order of the map and of its magnitude; the two games apart in the order of the map."""

    def games(rows: Tensor, order: Order) -> np.ndarray:
        return _games(evaluation, rows, order, options)

    signed, absolute = in_orders(evaluation, options, ("road", options.percentages, options.noise), games)
    curves = {}
    for kind, name in enumerate(("road", "road_accuracy")):
        morf, lerf = signed[:, kind, 0], signed[:, kind, 1]
        curves[f"{name}_gap"] = lerf - morf
        curves[f"{name}_gap_abs"] = absolute[:, kind, 1] - absolute[:, kind, 0]
        curves[f"{name}_morf"], curves[f"{name}_lerf"] = morf, lerf
    by_magnitude = tuple(column for column in _COLUMNS if column.endswith("_abs"))
    by_sign = tuple(column for column in _COLUMNS if column not in by_magnitude)
    return assemble(
        columns={column: curves[column].mean(axis=1) for column in _COLUMNS},
        excluded=[options.missing(signed=by_sign, absolute=by_magnitude)] * len(evaluation),
        curves={f"{column}_curve": curves[column] for column in _COLUMNS},
    )


def _solved(images: Tensor, hidden: Tensor) -> Tensor:
    """(n, C, H, W) imputed on their device; by the direct solver where the iteration does not converge."""
    try:
        return impute_all(images, hidden)
    except ArithmeticError:
        pairs = zip(images.cpu().numpy(), hidden.cpu().numpy(), strict=True)
        return torch.from_numpy(np.stack([impute(image, mask) for image, mask in pairs])).to(images.device)


def _games(evaluation: Evaluation, rows: Tensor, order: Order, options: RoadOptions) -> np.ndarray:
    """(n, 2, 2, P), in each of the scores, MoRF(p) and LeRF(p) of the images `rows`."""
    streams, shares = evaluation.streams("road"), len(options.percentages)
    counts = options.counts(evaluation.maps.shape[-2:].numel())
    hidden_first = [ranks(evaluation, order, lowest) for lowest in (False, True)]
    indices, shape = rows.tolist(), tuple(evaluation.images.shape[1:])

    def hidden(number: int) -> Tensor:
        return torch.stack([ranked[indices[number]] < count for ranked in hidden_first for count in counts])

    def noise(number: int) -> list[np.ndarray]:
        source = streams[indices[number]]
        return [options.noise * source.generator(share).standard_normal(shape) for share in range(shares)]

    solve = _on_host if evaluation.images.device.type == "cpu" else _on_device
    imputed = solve(evaluation.images[rows], hidden, noise)

    def build(image: int, steps: range) -> Tensor:
        # Steps come in order, so that a device can solve for several images at once.
        return torch.stack(list(islice(imputed, len(steps))))

    scores = sweep_scores(evaluation, rows, 2 * shares, build, _SCORES)
    return np.moveaxis(scores, 2, 1).reshape(len(rows), len(_SCORES), 2, shares)


def _on_host(images: Tensor, hidden: Hidden, noise: Noise) -> Iterator[Tensor]:
    """The noisy imputed images (C, H, W), by a direct solver one after the other."""
    for number, image in enumerate(images):
        original, masks, noises = image.double().numpy(), hidden(number).numpy(), noise(number)
        for step, mask in enumerate(masks):
            imputed = impute(original, mask) + noises[step % len(noises)] * mask
            yield torch.from_numpy(imputed).to(image.dtype)


def _on_device(images: Tensor, hidden: Hidden, noise: Noise) -> Iterator[Tensor]:
    """The same, by an iterative solver for as many at a time as `_SOLVED_VALUES` allows."""
    at_once = max(1, _SOLVED_VALUES // images[0].numel())
    waiting: list[tuple[Tensor, Tensor, Tensor]] = []
    for number, image in enumerate(images):
        noises = torch.from_numpy(np.stack(noise(number))).to(images.dtype).to(images.device, non_blocking=True)
        masks = hidden(number)
        waiting += ((image, mask, noises[step % len(noises)]) for step, mask in enumerate(masks))
        while len(waiting) >= at_once or (waiting and number == len(images) - 1):
            originals, hidden_parts, noise_parts = (torch.stack(part) for part in zip(*waiting[:at_once], strict=True))
            imputed = _solved(originals.double(), hidden_parts) + noise_parts * hidden_parts[:, None]
            yield from imputed.to(images.dtype)
            del waiting[:at_once]


METRICS.add(
    MetricSpec(
        name="road",
        compute=road,
        options=RoadOptions,
        columns=_COLUMNS,
        curves=tuple(f"{column}_curve" for column in _COLUMNS),
        descriptions={
            **_DESCRIPTIONS,
            **{f"{name}_curve": line.replace("mean over p of", "at each p") for name, line in _DESCRIPTIONS.items()},
        },
        definition="mean over p of the probability with the lowest share p imputed minus that with the highest; "
        "road_accuracy_gap: of the accuracy, the GAP of tables",
        range="[-1, 1]",
        reference="Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML 2022",
        forwards=lambda options: 2 * len(options.percentages) * options.order_count,
        revision=1,
        needs=frozenset({"map", "model"}),
    )
)
