"""Integrated gradients:  `z = (x - x') * integral_0^1 grad f_y(x' + a (x - x')) da`.

Source: Sundararajan, Taly, Yan, *Axiomatic Attribution for Deep Networks* (2017). The integral is a quadrature whose
weights sum to 1 (`ssig.estimators.quadrature`); Gauss-Legendre by default. `rule: adaptive`
(`ssig.estimators.adaptive_path`) puts at most `steps` nodes where completeness asks for them, and stops at the
tolerance. `preset: paper` gives the PAIR package's settings: 25 points with both ends at full weight, black baseline,
softmax probability.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.errors import UsageError
from ssig.estimators.adaptive_path import FEWEST, adaptive_path
from ssig.estimators.common_options import CommonOptions, check_rule
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import integrate
from ssig.estimators.quadrature import RULES
from ssig.estimators.samplers import Line
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps

ADAPTIVE = "adaptive"
RULES_OF_IG = (*RULES, ADAPTIVE)


@dataclass(frozen=True)
class IntegratedGradientsOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "points on the path, one gradient evaluation each", at_least=1)
    rule: str = option("gauss-legendre", "quadrature; adaptive takes at most `steps` points", choices=RULES_OF_IG)
    tolerance: float = option(
        0.01,
        "adaptive rule: largest summed error of the intervals, relative to f(x) - f(x'). It bounds the residual and "
        "not the error of the map, which may be 30 % where the residual is .5 %",
        above=0,
    )
    map_tolerance: float = option(
        0.0,
        "adaptive rule: it adds points until half as many more change the map by at most this share of its norm; "
        "0: no such limit",
        at_least=0,
    )

    def __post_init__(self) -> None:
        if self.rule != ADAPTIVE:
            check_rule(self.rule, self.steps)
        elif self.steps < FEWEST:
            raise UsageError("steps", self.steps, f"at least {FEWEST} for the adaptive rule")


def integrated_gradients(group: Group, options: IntegratedGradientsOptions) -> Steps:
    if options.rule == ADAPTIVE:
        return (
            yield from adaptive_path(
                group,
                most=options.steps,
                tolerance=options.tolerance,
                map_tolerance=options.map_tolerance,
                readout_name=options.readout,
            )
        )
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
        path=lambda options: None if options.rule == ADAPTIVE else ("line", options.rule, options.steps),
        presets={"paper": {"steps": 25, "rule": "endpoints", "baseline": "black", "score": "probability"}},
    )
)
