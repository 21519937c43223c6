"""Shapley SSIG:  `z = (x - x') * E_k E_{m ~ Bernoulli(rho_k)} [ grad f_y(x' + m * (x - x')) ]`.

Keep probabilities `rho_k = (k + 1/2) / K` are stratified over the samples. The Owen integral of the multilinear
extension: exact Shapley values where `f` is multilinear or quadratic in `m`, first order otherwise (gradients at
the corners are no finite differences); the residual is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import SuppressionOptions, integrand_option, run, sampler_option
from ssig.registry import METHODS, MethodSpec


@dataclass(frozen=True)
class ShapleyOptions(SuppressionOptions):
    sampler: str = sampler_option("bernoulli")
    integrand: str = integrand_option("gradient")


METHODS.add(
    MethodSpec(
        name="ssig-shapley",
        run=run,
        options=ShapleyOptions,
        paper="Owen 1972, multilinear extension; suppression: Luo, McDermott, O'Riordan 2025",
        equation="(x - x') * E_k E_m[grad f(x' + m (x - x'))], m ~ Bernoulli((k + 1/2) / K) per pixel",
        evaluations=lambda options: options.evaluations,
        complete=False,
        revision=1,  # errors come from eight groups of samples
    )
)
