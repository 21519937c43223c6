"""Colours as readers with other colour vision see them, and how far apart they lie."""

from __future__ import annotations

import numpy as np

# Linear RGB as dichromats see it: Machado, Oliveira, Fernandes (2009), severity 1.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _XYZ.sum(axis=1)


def of_hex(colours: list[str]) -> np.ndarray:
    """(n, 3) in [0, 1] of colours such as ``#3d6bd8``."""
    return np.array([list(bytes.fromhex(colour[1:])) for colour in colours]) / 255


def linear(colours: np.ndarray) -> np.ndarray:
    """Linear RGB of sRGB in [0, 1]."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Relative luminance of linear RGB (..., 3), in [0, 1]."""
    light: np.ndarray = np.clip(colours @ _LUMINANCE, 0, 1)
    return light


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE L* of linear RGB (..., 3)."""
    light = luminance(colours)
    return np.where(light > 0.008856, 116 * np.cbrt(light) - 16, 903.3 * light)


def lab(colours: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB (..., 3)."""
    ratio = np.clip(colours, 0, 1) @ _XYZ.T / _WHITE
    root = np.where(ratio > 0.008856, np.cbrt(ratio), (903.3 * ratio + 16) / 116)
    return np.stack(
        [116 * root[..., 1] - 16, 500 * (root[..., 0] - root[..., 1]), 200 * (root[..., 1] - root[..., 2])], axis=-1
    )


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours such as ``#3d6bd8``, 1 to 21."""
    dark, light = sorted(luminance(linear(of_hex([one, other]))).tolist())
    return float((light + 0.05) / (dark + 0.05))
