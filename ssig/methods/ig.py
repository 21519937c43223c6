"""Integrated gradients:  `z = (x - x') * integral_0^1 grad f_y(x' + a (x - x')) da`.

Source: Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks* (2017). The integral is a quadrature whose
weights sum to 1 (`ssig.quadrature`); Gauss-Legendre by default. `preset: paper` gives the PAIR implementation's
settings: 25 points with both ends at full weight, black baseline, softmax probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.integrands import READOUTS
from ssig.integration import integrate
from ssig.options import option
from ssig.quadrature import RULES
from ssig.registry import METHODS, MethodSpec
from ssig.samplers import Line
from ssig.suppression import CommonOptions, check_rule
from ssig.types import Group, Steps


@dataclass(frozen=True)
class IntegratedGradientsOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "points on the path, one gradient evaluation each", at_least=1)
    rule: str = option("gauss-legendre", "quadrature", choices=RULES)

    def __post_init__(self) -> None:
        check_rule(self.rule, self.steps)


def integrated_gradients(group: Group, options: IntegratedGradientsOptions) -> Steps:
    return (
        yield from integrate(
            group,
            Line(options.rule),
            samples=options.steps,
            integrand_name="gradient",
            readout_name=options.readout,
        )
    )


METHODS.add(
    MethodSpec(
        name="ig",
        run=integrated_gradients,
        options=IntegratedGradientsOptions,
        paper="Sundararajan, Taly, Yan 2017",
        equation="(x - x') * integral of grad f(x' + a (x - x')) da",
        evaluations=lambda options: int(options.steps),
        complete=True,
        presets={"paper": {"steps": 25, "rule": "endpoints", "baseline": "black", "score": "probability"}},
    )
)
