"""SmoothGrad:  `z = E_{eps ~ N(0, I)} [ grad f_y(x + sigma (max x - min x) eps) ]`, read out as `sum_c |z_c|`.

Source: Smilkov, Thorat, Kim, Viégas, Wattenberg, *SmoothGrad: removing noise by adding noise* (2017). `preset: paper`
gives the PAIR implementation's settings: 25 samples of squared gradients of the softmax probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import SampledOptions, expectation, integrand_option, path_of
from ssig.estimators.integrands import READOUTS, RESIDUAL
from ssig.estimators.samplers import Noise
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class SmoothGradOptions(SampledOptions):
    readout: str = option("sum-abs", "channels to map", choices=READOUTS)
    sigma: float = option(0.15, "noise, as a fraction of the image's range", above=0)
    integrand: str = integrand_option("signed")

    def law(self) -> Noise:
        """The sampler."""
        return Noise(self.sigma)


def smoothgrad(group: Group, options: SmoothGradOptions) -> Steps:
    return expectation(group, options.law(), options, options.integrand, options.readout)


METHODS.add(
    MethodSpec(
        name="smoothgrad",
        run=smoothgrad,
        options=SmoothGradOptions,
        paper="Smilkov, Thorat, Kim, Viégas, Wattenberg 2017",
        equation="E[grad f(x + sigma (max x - min x) eps)]",
        evaluations=lambda options: options.evaluations,
        complete=False,
        path=path_of("smoothgrad"),
        revision=1,  # errors come from eight groups of samples
        baseline=lambda options: options.integrand in RESIDUAL,
        presets={"paper": {"samples": 25, "integrand": "squared", "score": "probability"}},
    )
)
