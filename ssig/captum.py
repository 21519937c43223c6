"""`SuppressionIG` and `IntegratedGradients` with Captum's calling convention.

    SuppressionIG(forward_func).attribute(inputs, baselines, target, ...) -> attributions, shaped like inputs

`forward_func` maps inputs (B, C, H, W) to (B, classes), or to (B,) where `target` is None. As in Captum, `baselines`
defaults to zero, inputs may be in any space that the function takes, and the explained score is the function's output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssig.api import Key, attribute
from ssig.api.inputs import place_of
from ssig.errors import UsageError
from ssig.models.model import Model
from ssig.types import Attribution

# Captum's names of quadrature rules. Its trapezoid weights sum to (n - 1) / n; those of ssig sum to 1.
CAPTUM_RULES = {
    "gausslegendre": "gauss-legendre",
    "riemann_left": "left",
    "riemann_right": "right",
    "riemann_middle": "midpoint",
    "riemann_trapezoid": "trapezoid",
}

Target = int | Sequence[int] | Tensor | None


class _CaptumStyle:
    """Attribution of `forward_func`.

    Args:
        forward_func: the function.
        ready: as in `ssig.attribute`, for networks of `load_model`.
        device: as in `ssig.attribute`: by default that of the module `forward_func`, or else that of the inputs.
    """

    def __init__(
        self, forward_func: Callable[..., Tensor], *, ready: bool = True, device: torch.device | str | None = None
    ) -> None:
        self.forward_func = forward_func
        self.ready = ready
        self.device = device

    def _attribute(
        self,
        method: str,
        inputs: Tensor,
        baselines: Tensor | float | None,
        target: Target,
        additional_forward_args: Any,
        **options: Any,
    ) -> Attribution:
        if not isinstance(inputs, Tensor):
            raise UsageError("inputs", type(inputs).__name__, "one tensor (B, C, H, W)")
        if isinstance(self.forward_func, nn.Module) and self.forward_func.training:
            raise UsageError("forward_func", "a module in training mode", "a module in evaluation mode: call .eval()")
        extra = additional_forward_args
        arguments = () if extra is None else extra if isinstance(extra, tuple) else (extra,)

        def logits(points: Tensor) -> Tensor:
            output = self.forward_func(points, *arguments)
            return output.reshape(len(points), -1) if target is None else output

        reference = baselines if isinstance(baselines, Tensor) else torch.tensor(float(baselines or 0.0))
        classes = 0 if target is None else target
        place = place_of(self.forward_func, inputs, options.pop("device", self.device))
        # Only a network, not a function around it, can be made ready.
        plain = isinstance(self.forward_func, Model) and not arguments and target is not None
        return attribute(
            self.forward_func if plain else logits,
            inputs,
            torch.as_tensor(classes),
            method,
            baseline=reference,
            ready=self.ready,
            device=place,
            **options,
        )


class SuppressionIG(_CaptumStyle):
    """Suppression integrated gradients; see `ssig.methods.ssig`."""

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_samples: int = 32,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        method: str = "ssig",
        seed: int = 0,
        keys: Sequence[Key] | None = None,
        **options: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attributions (B, C, H, W); with `return_convergence_delta` also the completeness residual (B,).

        Args:
            inputs: (B, C, H, W).
            baselines: a number or a tensor that broadcasts to `inputs`; zero by default.
            target: class of each row, or one for all; None if the function returns one number per row.
            additional_forward_args: further arguments of the function, the same for every point.
            n_samples: gradient evaluations per image.
            internal_batch_size: points evaluated at once.
            return_convergence_delta: refused for `method: ssig`, whose magnitudes have no completeness axiom.
            method: any method of the suppression family.
            seed, keys, options: as in `ssig.attribute`.
        """
        result = self._attribute(
            method,
            inputs,
            baselines,
            target,
            additional_forward_args,
            micro_batch=internal_batch_size,
            samples=n_samples,
            seed=seed,
            keys=keys,
            **options,
        )
        return _with_delta(result, return_convergence_delta, method)


class IntegratedGradients(_CaptumStyle):
    """Integrated gradients; see `ssig.methods.ig`."""

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: Target = None,
        additional_forward_args: Any = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attributions (B, C, H, W); with `return_convergence_delta` also the completeness residual (B,).

        Args:
            inputs, baselines, target, additional_forward_args: as in `SuppressionIG.attribute`.
            n_steps: points on the path.
            method: a quadrature rule, by Captum's or ssig's name.
            internal_batch_size: points evaluated at once.
            return_convergence_delta: whether to return the residual too.
        """
        result = self._attribute(
            "ig",
            inputs,
            baselines,
            target,
            additional_forward_args,
            micro_batch=internal_batch_size,
            steps=n_steps,
            rule=CAPTUM_RULES.get(method, method),
        )
        return _with_delta(result, return_convergence_delta, "ig")


def _with_delta(result: Attribution, return_delta: bool, method: str) -> Tensor | tuple[Tensor, Tensor]:
    if not return_delta:
        return result.values
    if result.completeness_residual is None:
        raise UsageError("return_convergence_delta", True, f"False: {method} has no completeness axiom")
    return result.values, result.completeness_residual
