"""SmoothGrad-Squared:  `z = E_{eps ~ N(0, I)} [ (grad f_y(x + sigma (max x - min x) eps))^2 ]`, summed over channels.

Source: Hooker, Erhan, Kindermans, Kim, *A Benchmark for Interpretability Methods in Deep Neural Networks* (2019). It
is `smoothgrad` with `integrand: squared`, under its own name and so with its own draws. `preset: paper` gives the
settings of PAIR's implementation, where squares are the default: 25 samples of the softmax probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import integrand_option, path_of
from ssig.methods.smoothgrad import SmoothGradOptions, smoothgrad
from ssig.registry import METHODS, MethodSpec


@dataclass(frozen=True)
class SmoothGradSquaredOptions(SmoothGradOptions):
    integrand: str = integrand_option("squared")


METHODS.add(
    MethodSpec(
        name="smoothgrad-squared",
        run=smoothgrad,
        options=SmoothGradSquaredOptions,
        paper="Hooker, Erhan, Kindermans, Kim 2019",
        equation="E[(grad f(x + sigma (max x - min x) eps))^2]",
        evaluations=lambda options: options.evaluations,
        complete=False,
        path=path_of("smoothgrad-squared"),
        revision=1,  # errors come from eight groups of samples
        baseline=METHODS["smoothgrad"].baseline,
        presets={"paper": {"samples": 25, "score": "probability"}},
    )
)
