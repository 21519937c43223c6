"""Published evaluation protocols written from their descriptions: NumPy, one image, one step at a time.

`predict` takes (n, C, H, W) to logits (n, classes), in the space in which the protocol changes images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import correlate2d
from scipy.special import softmax

Predict = Callable[[np.ndarray], np.ndarray]
TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def rise_kernel() -> np.ndarray:
    """(11, 11), SciPy's Gaussian of sigma 5 of a delta in an array of that size."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel: np.ndarray = gaussian_filter(delta, 5)
    return kernel


def rise_blur(image: np.ndarray) -> np.ndarray:
    """(C, H, W), RISE's substrate of a normalised image."""
    return np.stack([correlate2d(channel, rise_kernel(), mode="same") for channel in image])


def falling(saliency: np.ndarray) -> np.ndarray:
    """Flat indices by falling value, ties by index."""
    return np.argsort(-saliency.ravel(), kind="stable")


def probability(predict: Predict, image: np.ndarray, target: int) -> float:
    return float(softmax(predict(image[None])[0])[target])


def rise(
    predict: Predict, saliency: np.ndarray, target: int, start: np.ndarray, finish: np.ndarray, step: int
) -> tuple[list[float], float]:
    """RISE's insertion or deletion: the curve over blocks of `step` pixels and its area."""
    current, order = start.reshape(len(start), -1).copy(), falling(saliency)
    scores = [probability(predict, start, target)]
    for begin in range(0, len(order), step):
        block = order[begin : begin + step]
        current[:, block] = finish.reshape(len(finish), -1)[:, block]
        scores.append(probability(predict, current.reshape(start.shape), target))
    return scores, (sum(scores) - scores[0] / 2 - scores[-1] / 2) / (len(scores) - 1)


def insertion_score(
    predict: Predict, image: np.ndarray, saliency: np.ndarray, target: int, black: np.ndarray
) -> tuple[list[float], float, float]:
    """TMLR-IDGI's curve, its area and that of the curve over the whole image's probability."""
    order = falling(saliency)
    curve = []
    for fraction in np.arange(0, 1.05, 0.05):
        shown = np.zeros(order.shape, dtype=bool)
        shown[order[: int(fraction * len(order))]] = True
        curve.append(probability(predict, np.where(shown.reshape(saliency.shape), image, black), target))
    normalised = np.array(curve) / curve[-1]
    return curve, float(np.trapezoid(curve, dx=0.05)), float(np.trapezoid(normalised, dx=0.05))


def xplique(
    predict: Predict, images: np.ndarray, maps: np.ndarray, targets: Sequence[int], deletion: bool, steps: int = 10
) -> float:
    """Xplique's Insertion or Deletion of a data set: logits, mean over images at each step, then the area."""
    means = []
    for count in np.linspace(0, maps[0].size, steps + 1, dtype=np.int32):
        logits = []
        for image, saliency, target in zip(images, maps, targets, strict=True):
            changed = np.isin(np.arange(saliency.size), falling(saliency)[:count]).reshape(saliency.shape)
            logits.append(predict((image * (changed != deletion))[None])[0, target])
        means.append(np.mean(logits))
    return float(np.mean(np.array(means[:-1]) + np.array(means[1:])) * 0.5)


def lpi(predict: Predict, image: np.ndarray, saliency: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """LPI's DiffID: accuracy and logit ratio, each (2, 9) for insertion and deletion.

    The map is repeated over channels; equal elements go by pixel and then by channel.
    """
    pixel, channel = np.meshgrid(np.arange(saliency.size), np.arange(len(image)))
    repeated = np.tile(saliency.ravel(), len(image))
    order = np.lexsort((channel.ravel(), pixel.ravel(), -repeated))
    clean = predict(image[None])[0, target]
    accuracy, ratio = np.empty((2, 9)), np.empty((2, 9))
    for game, first in enumerate((order[::-1], order)):
        for column, tenth in enumerate(TENTHS):
            count = int(round(image.size * tenth, 6))
            changed = image.ravel().copy()
            changed[first[:count]] = changed[first[count:]].mean()
            logits = predict(changed.reshape(1, *image.shape))[0]
            accuracy[game, column] = logits.argmax() == target
            ratio[game, column] = logits[target] / clean
    return accuracy, ratio


def sig(predict: Predict, image: np.ndarray, values: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """SIG's DiffID: accuracy (9,) of insertion and of deletion.

    Every channel of a pixel has a value (C, H, W) of its own; equal ones go by their place.
    """
    order = np.argsort(-values.ravel(), kind="stable")
    accuracy = np.empty((2, 9))
    for game, first in enumerate((order[::-1], order)):
        for column, tenth in enumerate(TENTHS):
            count = int(round(image.size * tenth, 6))
            changed = image.ravel().copy()
            changed[first[:count]] = changed[first[count:]].mean()
            accuracy[game, column] = predict(changed.reshape(1, *image.shape))[0].argmax() == target
    return accuracy[0], accuracy[1]


def pixel_flipping(predict: Predict, image: np.ndarray, saliency: np.ndarray, target: int, block: int) -> list[float]:
    """Quantus's Pixel-Flipping with a one-channel map: softmax after each block set to the image's minimum."""
    current, order = image.reshape(len(image), -1).copy(), falling(saliency)
    curve = []
    for begin in range(0, len(order), block):
        current[:, order[begin : begin + block]] = image.min()
        curve.append(probability(predict, current.reshape(image.shape), target))
    return curve
