"""The references of metrics: Quantus, captum's metrics, PAIR's curves, OpenCV's contours, and correlations by SciPy.

All take and give NumPy arrays of a batch. What a reference draws at random is drawn for it, and where it explains
again it asks our method: the metric is compared and nothing else. Quantus divides by the greatest value of all that a
call is given and casts points to float32; so it sees one image a call, of values that float32 holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from ssig.types import Box

Draws = Iterable[np.ndarray]
# (network, images, targets) -> maps (n, H, W).
Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]


class InDouble(nn.Module):
    """A float64 network for a caller that has float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.network(points.double())
        return logits


def quantus_map(metric: str, maps: np.ndarray, masks: np.ndarray | None = None, **settings: Any) -> np.ndarray:
    """(B,), a metric of Quantus that looks at |map| alone, or at |map| and the object.

    Args:
        metric: name of the class.
        maps: (B, H, W).
        masks: (B, H, W) bool.
        settings: of the metric.
    """
    values = []
    for row, saliency in enumerate(maps):
        mask = None if masks is None else masks[row, None, None]
        # Only the shape of the image counts.
        image = np.zeros((1, 3, *saliency.shape))
        values.append(_quantus(metric, image, np.zeros(1, int), saliency[None], s_batch=mask, abs=True, **settings)[0])
    return np.array(values, dtype=np.float64)


def quantus_top_k(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(B,), Quantus's top-k intersection with k the pixels of each object (B, H, W)."""
    counts = masks.sum(axis=(1, 2)).tolist()
    rows = [slice(row, row + 1) for row in range(len(maps))]
    found = [quantus_map("TopKIntersection", maps[row], masks[row], k=k) for row, k in zip(rows, counts, strict=True)]
    return np.concatenate(found)


def quantus_pixel_flipping(
    network: nn.Module, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, block: int
) -> np.ndarray:
    """(B, N / block), the target's probability after each block of pixels.

    It flips single elements. Those of a pixel tie for a map of one channel, so a step has all channels of `block`.
    """
    step = block * images.shape[1]
    curves = [
        _quantus("PixelFlipping", *one, model=InDouble(network), softmax=True, features_in_step=step)[0]
        for one in _each(images, targets, maps)
    ]
    return np.array(curves)


def quantus_faithfulness(
    network: nn.Module,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    subsets: Sequence[Sequence[np.ndarray]],
) -> np.ndarray:
    """(B,), faithfulness correlation of the logit, with the image's least value in place of what is hidden.

    Args:
        network, images, maps, targets: (B, C, H, W), (B, H, W), (B,).
        subsets: for each image the sets (H, W) bool; it hides elements, here all channels of a set's pixels.
    """
    found = []
    for one, hidden in zip(_each(images, targets, maps), subsets, strict=True):
        chosen = iter([np.flatnonzero(np.broadcast_to(pixels, images.shape[1:])) for pixels in hidden])
        with patch("numpy.random.choice", lambda *_, chosen=chosen, **__: next(chosen)):
            correlation = _quantus(
                "FaithfulnessCorrelation", *one, model=InDouble(network), nr_runs=len(hidden), subset_size=1
            )
        found.append(correlation[0])
    return np.array(found)


def quantus_max_sensitivity(
    network: nn.Module,
    images: np.ndarray,
    targets: np.ndarray,
    explain: Explain,
    moved: Draws,
    samples: int,
) -> np.ndarray:
    """(B,), max-sensitivity over `samples` changed batches (B, C, H, W)."""
    points = iter(moved)
    maps = explain(network, torch.from_numpy(images), torch.from_numpy(targets)).double().numpy()
    found = _quantus(
        "MaxSensitivity",
        images,
        targets,
        maps,
        model=network,
        explain_func=_explain_func(explain),
        nr_samples=samples,
        perturb_func=lambda arr, **_: next(points).reshape(arr.shape),
    )
    return np.array(found)


def quantus_mprt(
    network: nn.Module, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, explain: Explain
) -> np.ndarray:
    """(B, layers), Spearman of |map| with those of networks that forget layer by layer, from the logits on."""
    scores = _randomised("MPRT", network, images, maps, targets, explain, abs=True)
    return np.array([found for layer, found in scores.items() if layer != "original"]).T


def quantus_emprt(
    network: nn.Module, images: np.ndarray, maps: np.ndarray, targets: np.ndarray, explain: Explain
) -> np.ndarray:
    """(B,), relative rise of the histogram's entropy; maps are not normalised, which leaves histograms as they are."""
    # It also takes the entropy of the network's answers, which must be probabilities for that.
    found = _randomised("EfficientMPRT", network, images, maps, targets, explain, normalise=False, softmax=True)
    return np.array(found)


def quantus_random_logit(
    network: nn.Module,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    explain: Explain,
    drawn: np.ndarray,
    classes: int,
) -> np.ndarray:
    """(B,), Spearman of each map with that of the other class number `drawn` (B,), counted without the target.

    Its default, SSIM of maps as long vectors, is no SSIM of images.
    """
    similarity = import_module("quantus").functions.similarity_func.correlation_spearman
    found = []
    for one, other in zip(_each(images, targets, maps), drawn, strict=True):
        with patch("numpy.random.randint", lambda *_, other=other: np.array([other])), patch("numpy.random.seed"):
            value = _quantus(
                "RandomLogit",
                *one,
                model=network,
                explain_func=_explain_func(explain),
                similarity_func=similarity,
                num_classes=classes,
            )
        found.append(value[0])
    return np.array(found)


def quantus_imputed(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """(C, H, W), the image with its pixels `hidden` (n,), flat indices, imputed without noise."""
    impute = import_module("quantus").functions.perturb_func.noisy_linear_imputation
    with _quietly():
        imputed: np.ndarray = impute(image, hidden, noise=0.0)
    return imputed


def captum_infidelity(
    network: nn.Module,
    images: Tensor,
    values: Tensor,
    targets: Tensor,
    baselines: Tensor,
    perturbed: Tensor,
    multiplied: bool,
    normalised: bool,
) -> np.ndarray:
    """(B,), captum's infidelity.

    Args:
        network: gives logits.
        images, values, baselines: (B, C, H, W).
        targets: (B,).
        perturbed: (B samples, C, H, W), each image's in turn.
        multiplied: the attributions are multiplied by the image less its baseline.
        normalised: with the best multiple of each image's attributions.
    """
    metrics = import_module("captum.metrics")
    perturb = metrics.infidelity_perturb_func_decorator(multiply_by_inputs=multiplied)(lambda *_: perturbed)
    found: Tensor = metrics.infidelity(
        network,
        perturb,
        images,
        values,
        baselines=baselines,
        target=targets,
        n_perturb_samples=len(perturbed) // len(images),
        normalize=normalised,
    )
    return found.numpy()


def captum_max_sensitivity(
    network: nn.Module, images: Tensor, targets: Tensor, explain: Explain, moved: Sequence[Tensor]
) -> np.ndarray:
    """(B,), captum's max-sensitivity over changed batches (B, C, H, W)."""
    points = torch.stack(list(moved), dim=1).flatten(0, 1)

    def explanations(inputs: Any) -> tuple[Tensor]:
        given = inputs[0] if isinstance(inputs, tuple) else inputs
        return (explain(network, given, targets.repeat_interleave(len(given) // len(images))),)

    found: Tensor = import_module("captum.metrics").sensitivity_max(
        explanations, images, lambda inputs: points, n_perturb_samples=len(moved)
    )
    return found.numpy()


def captum_completeness(
    network: nn.Module, images: Tensor, values: Tensor, targets: Tensor, baselines: Tensor
) -> np.ndarray:
    """(B,), captum's convergence delta of attributions (B, C, H, W)."""
    method = import_module("captum.attr").IntegratedGradients(network)
    found: Tensor = method.compute_convergence_delta(values, baselines, images, target=targets)
    return found.detach().numpy()


def contour_ious(grey: np.ndarray, box: Box) -> np.ndarray:
    """(2, 255), at the thresholds 0 ... 254: IoU of the largest contour's box, and the highest of all contours' boxes.

    Contours by OpenCV, and what the benchmark of Choe et al., CVPR 2020, makes of them.

    Args:
        grey: (H, W) uint8 with the value 255.
        box: of the object, inside the image, of integers.
    """
    cv2 = import_module("cv2")
    end = np.array(grey.shape[::-1]) - 1

    def iou(contour: np.ndarray) -> float:
        x, y, width, height = cv2.boundingRect(contour)
        low, high = np.array([x, y]), np.minimum([x + width, y + height], end)
        truth_low, truth_high = np.array(box[:2]), np.array(box[2:])
        both = np.minimum(high, truth_high) - np.maximum(low, truth_low) + 1
        common = max(both[0], 0) * max(both[1], 0)
        return float(common / ((high - low + 1).prod() + (truth_high - truth_low + 1).prod() - common))

    ious = np.empty((2, 255))
    for threshold in range(255):
        contours, _ = cv2.findContours((grey > threshold).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        ious[:, threshold] = iou(max(contours, key=cv2.contourArea)), max(map(iou, contours))
    return ious


def removal_correlation(
    predict: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    saliency: np.ndarray,
    fill: np.ndarray,
    sets: Iterable[np.ndarray],
    correlation: Callable[[list[float], list[float]], Any],
) -> float:
    """Correlation, over sets of pixels, of the map's sum over a set with the score that is lost without it.

    Args:
        predict: (n, C, H, W) -> (n,), the score.
        image, fill: (C, H, W); the fill broadcasts.
        saliency: (H, W).
        sets: (H, W) bool each.
        correlation: of two series, with the attribute `statistic`.
    """
    clean, sums, drops = float(predict(image[None])[0]), [], []
    for hidden in sets:
        sums.append(float(saliency[hidden].sum()))
        drops.append(clean - float(predict(np.where(hidden, fill, image)[None])[0]))
    return float(correlation(sums, drops).statistic)


def _randomised(
    metric: str,
    network: nn.Module,
    images: np.ndarray,
    maps: np.ndarray,
    targets: np.ndarray,
    explain: Explain,
    **settings: Any,
) -> Any:
    # Layers are initialised by torch's global generator.
    with torch.random.fork_rng(devices=[]):
        return _quantus(
            metric, images, targets, maps, model=InDouble(network), explain_func=_explain_func(explain), **settings
        )


def _explain_func(explain: Explain) -> Callable[..., np.ndarray]:
    """Our method as Quantus calls it: arrays in, maps (n, 1, H, W) out."""

    def function(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        network = model.network if isinstance(model, InDouble) else model
        maps = explain(network, torch.from_numpy(inputs), torch.as_tensor(targets, dtype=torch.int64))
        return maps[:, None].double().numpy()

    return function


def _each(*values: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """The batches of one row each."""
    return (tuple(value[row : row + 1] for value in values) for row in range(len(values[0])))


def _quantus(
    metric: str,
    images: np.ndarray,
    targets: np.ndarray,
    maps: np.ndarray,
    *,
    model: nn.Module | None = None,
    s_batch: np.ndarray | None = None,
    explain_func: Callable[..., np.ndarray] | None = None,
    softmax: bool = False,
    **settings: Any,
) -> Any:
    """What a metric of Quantus gives for images (B, C, H, W) and maps (B, H, W), with the settings it is made with."""
    made = getattr(import_module("quantus"), metric)(disable_warnings=True, **settings)
    with _quietly():
        return made(
            model=model,
            x_batch=images,
            y_batch=targets,
            a_batch=maps[:, None].copy(),
            s_batch=s_batch,
            channel_first=True,
            explain_func=explain_func,
            softmax=softmax,
            batch_size=len(images),
        )


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield
