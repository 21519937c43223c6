"""Frequency SSIG:  `z = E_m [ |grad f_y(x' + F^-1(m * F(x - x')))| ]`.

Suppression in the frequency domain: the mask `m` keeps each Fourier coefficient with probability `rho_k`; the keep
probability `rho_k = (k + 1/2) / K` is stratified over the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import SuppressionOptions, path_of, run, sampler_option
from ssig.registry import METHODS, MethodSpec


@dataclass(frozen=True)
class FrequencyOptions(SuppressionOptions):
    sampler: str = sampler_option("frequency")


METHODS.add(
    MethodSpec(
        name="ssig-frequency",
        run=run,
        options=FrequencyOptions,
        paper="suppression law: Luo, McDermott, O'Riordan 2025",
        equation="E_m[|grad f(x' + F^-1(m F(x - x')))|], m ~ Bernoulli(rho_k) per coefficient",
        evaluations=lambda options: options.evaluations,
        complete=False,
        path=path_of("ssig-frequency"),
        revision=1,  # errors come from eight groups of samples
    )
)
