"""SSIG, suppression integrated gradients:  `z = E_{m ~ U(0, 1)^(H x W)} [ |grad f_y(x' + m * (x - x'))| ]`.

Source: Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025): the explanation is the expected gradient
magnitude over samples that suppress features of the input and add none. The suppression law is an option
(`ssig.estimators.samplers`).
"""

from __future__ import annotations

from ssig.estimators.common_options import SuppressionOptions, path_of, run
from ssig.registry import METHODS, MethodSpec

METHODS.add(
    MethodSpec(
        name="ssig",
        run=run,
        options=SuppressionOptions,
        paper="Luo, McDermott, O'Riordan 2025",
        equation="E_m[|grad f(x' + m (x - x'))|], m ~ U(0, 1) per pixel",
        evaluations=lambda options: options.evaluations,
        complete=False,
        path=path_of("ssig"),
        revision=1,  # errors come from eight groups of samples
    )
)
