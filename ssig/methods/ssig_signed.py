"""Signed SSIG:  `z = (x - x') * E_{m ~ U(0, 1)^(H x W)} [ grad f_y(x' + m * (x - x')) ]`.

Suppression sampling of Luo, McDermott, O'Riordan (2025) with the integrand of integrated gradients; with
`sampler: line` it is midpoint-rule integrated gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import SuppressionOptions, integrand_option, path_of, run
from ssig.registry import METHODS, MethodSpec


@dataclass(frozen=True)
class SignedOptions(SuppressionOptions):
    integrand: str = integrand_option("gradient")


METHODS.add(
    MethodSpec(
        name="ssig-signed",
        run=run,
        options=SignedOptions,
        paper="suppression law: Luo, McDermott, O'Riordan 2025",
        equation="(x - x') * E_m[grad f(x' + m (x - x'))], m ~ U(0, 1) per pixel",
        evaluations=lambda options: options.evaluations,
        complete=False,
        path=path_of("ssig-signed"),
        revision=1,  # errors come from eight groups of samples
    )
)
