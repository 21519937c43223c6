"""SmoothGrad-Squared:  `z = E_{eps ~ N(0, I)} [ (grad f_y(x + sigma (max x - min x) eps))^2 ]`, summed over channels.

Source: Hooker, Erhan, Kindermans, Kim, *A Benchmark for Interpretability Methods in Deep Neural Networks* (2019). It
is `smoothgrad` with `integrand: squared`, under its own name and so with its own draws. `preset: paper` gives the
settings of PAIR's implementation, where squares are the default: 25 samples of the softmax probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.integrands import READOUTS
from ssig.integration import integrate
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.samplers import Noise
from ssig.suppression import CommonOptions, samples_option
from ssig.types import Group, Steps


@dataclass(frozen=True)
class SmoothGradSquaredOptions(CommonOptions):
    readout: str = option("sum-abs", "channels to map", choices=READOUTS)
    samples: int = samples_option()
    sigma: float = option(0.15, "noise, as a fraction of the image's range", above=0)


def smoothgrad_squared(group: Group, options: SmoothGradSquaredOptions) -> Steps:
    return (
        yield from integrate(
            group,
            Noise(options.sigma),
            samples=options.samples,
            integrand_name="squared",
            readout_name=options.readout,
        )
    )


METHODS.add(
    MethodSpec(
        name="smoothgrad-squared",
        run=smoothgrad_squared,
        options=SmoothGradSquaredOptions,
        paper="Hooker, Erhan, Kindermans, Kim 2019",
        equation="E[(grad f(x + sigma (max x - min x) eps))^2]",
        evaluations=lambda options: int(options.samples),
        complete=False,
        presets={"paper": {"samples": 25, "score": "probability"}},
    )
)
