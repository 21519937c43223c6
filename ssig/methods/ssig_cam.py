"""SSIG-CAM: Grad-CAM whose weights are gradients integrated over suppression samples of the input.

    z = ReLU( sum_c w_c A_c(x) ),   w_c = E_m [ mean over pixels of d f_y(x̂) / d A_c ],   x̂ = x' + m * (x - x')

Source: this project; suppression sampling is Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025), and
the map that of Grad-CAM (`ssig.methods.grad_cam`), which is the case of one sample of the image itself
(`sampler: identity`). Gradients keep their sign, since a channel may speak against the class.

Where only pooling and a linear head follow the layer, a logit has the same gradients at every sample, and the map is
Grad-CAM's, with standard error 0: what suppression tells is then to be had at an earlier layer, or from
`score: probability`, which saturates.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ssig.engine.layers import averaged, enlarged
from ssig.estimators.common_options import SamplerOptions, samples_option
from ssig.estimators.integrands import readout
from ssig.estimators.integration import activations_of, attribution, endpoints
from ssig.methods.grad_cam import CamOptions, class_activation
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps


@dataclass(frozen=True)
class SsigCamOptions(CamOptions, SamplerOptions):
    samples: int = samples_option()

    def __post_init__(self) -> None:
        self.check(self.samples)


def ssig_cam(group: Group, options: SsigCamOptions) -> Steps:
    scores = yield from endpoints(group)
    response = yield Request(group.images, group.owners(), want=SCORE, layer=options.layer)
    image_activations = activations_of(response)

    def weighed(gradients: Tensor, activations: Tensor) -> Tensor:
        return class_activation(gradients, image_activations, group.images)

    def values_of(maps: Tensor) -> Tensor:
        return enlarged(maps.relu() if options.relu else maps, group.images)

    def mapped(maps: Tensor) -> Tensor:
        return readout(options.readout, values_of(maps))

    maps, error = yield from averaged(group, options.law(), options.samples, options.layer, weighed, mapped)
    return attribution(
        values_of(maps),
        options.readout,
        scores,
        has_residual=False,
        error=error,
        evaluations=options.samples,
    )


METHODS.add(
    MethodSpec(
        name="ssig-cam",
        run=ssig_cam,
        options=SsigCamOptions,
        paper="this project; suppression: Luo, McDermott, O'Riordan 2025; map: Selvaraju et al. 2017",
        equation="ReLU(sum_c E_m[w_c] A_c(x)), w_c = mean of df(x' + m (x - x'))/dA_c, at a layer",
        evaluations=lambda options: int(options.samples),
        complete=False,
        revision=1,  # errors come from eight groups of samples; channels-last layers
    )
)
