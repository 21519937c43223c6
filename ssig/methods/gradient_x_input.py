"""Gradient times input:  `z = (x - x') * grad f_y(x)`.

Source: Shrikumar, Greenside, Shcherbina, Kundaje, *Not Just a Black Box: Learning Important Features Through
Propagating Activation Differences* (2016), with the difference from a baseline in place of the input: the `mean`
baseline gives the gradient times the normalised input, which is what a network without our normalisation layer gets,
and `black` the gradient times the pixels. It is integrated gradients with one node, at the image; the residual is 0
for a linear network only.
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
class GradientXInputOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)


def gradient_x_input(group: Group, options: GradientXInputOptions) -> Steps:
    return (
        yield from integrate(group, Identity(), samples=1, integrand_name="gradient", readout_name=options.readout)
    )


METHODS.add(
    MethodSpec(
        name="gradient-x-input",
        run=gradient_x_input,
        options=GradientXInputOptions,
        paper="Shrikumar, Greenside, Shcherbina, Kundaje 2016",
        equation="(x - x') * grad f(x)",
        evaluations=lambda options: 1,
        complete=False,
        path=lambda options: name_of_points(Identity(), 1, ""),
    )
)
