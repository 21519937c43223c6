"""Gradient (saliency):  `z = grad f_y(x)`, read out as `sum_c |z_c|`.

Source: Simonyan, Vedaldi, Zisserman, *Deep Inside Convolutional Networks* (2014), with the sum over channels in place
of their maximum (`readout: max-abs` gives theirs).
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import integrate
from ssig.estimators.samplers import Identity, name_of_points
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class GradientOptions(CommonOptions):
    readout: str = option("sum-abs", "channels to map", choices=READOUTS)


def gradient(group: Group, options: GradientOptions) -> Steps:
    return (yield from integrate(group, Identity(), samples=1, integrand_name="signed", readout_name=options.readout))


METHODS.add(
    MethodSpec(
        name="gradient",
        run=gradient,
        options=GradientOptions,
        paper="Simonyan, Vedaldi, Zisserman 2014",
        equation="grad f(x)",
        evaluations=lambda options: 1,
        complete=False,
        path=lambda options: name_of_points(Identity(), 1, ""),
        baseline=lambda options: False,
    )
)
