"""What must hold for a class of Captum on a network, checked once for each network before its first map.

Captum gives maps without an error where it has no rule for a part of a network. So each class that replaces the
backward pass is checked by an identity of its own, on images of random pixels:

    DeepLift, DeepLiftShap     the attributions sum to f(x) - f(x'). A nonlinearity without a rule, such as ReLU6 or
                               GELU, is passed with its gradient, and the sum is off.
    LRP                        the relevance sums to f(x) in a copy of the network without biases: with biases a part
                               of it is theirs. A sum of two branches without a module of its own doubles it.
    GuidedBackprop,            every ReLU of the forward pass is a module `nn.ReLU`, and there is one: others are not
    Deconvolution,             guided. Without any, the map is the plain gradient.
    GuidedGradCam

Other classes see the network as a function and have nothing to check. Sources of the identities: Shrikumar, Greenside,
Kundaje, *Learning Important Features Through Propagating Activation Differences* (2017), summation-to-delta; Bach et
al., *On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation* (2015),
conservation; Springenberg et al., *Striving for Simplicity* (2015).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ssig.errors import ModelError
from ssig.extend.hookable import hookable
from ssig.models.outputs import logits_of

# Largest error of an identity, relative to the sum, and what rounding may add relative to the sum of magnitudes.
TOLERANCE, ROUNDING = 0.01, 1e-4
PROBES, TARGETS = 2, 3  # images of random pixels, and classes of each

# Attributions of one image (1, C, H, W) for a class, from a baseline of the same shape.
Attribute = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
_known: WeakKeyDictionary[nn.Module, dict[Hashable, str | None]] = WeakKeyDictionary()


def check_identity(kind: str, network: nn.Module, image: Tensor, attribute: Attribute, score: str) -> None:
    """Refuses a class of Captum whose identity does not hold for a network; checked once for each.

    Args:
        kind: name of the class.
        network: points (n, C, H, W) -> logits (n, classes).
        image: (1, C, H, W), for its shape, type and device.
        attribute: the class, with its options.
        score: that is explained.

    Raises:
        ModelError: the identity fails, with the reason.
    """
    check = IDENTITIES.get(kind)
    if check is None:
        return
    key = kind, score, image.shape, image.dtype, str(image.device)
    reasons = _known.setdefault(network, {})
    if key not in reasons:
        generator = torch.Generator().manual_seed(0)
        probes = torch.rand((PROBES, *image.shape[1:]), generator=generator, dtype=torch.float32).to(image)
        reasons[key] = check(network, probes, attribute)
    reason = reasons[key]
    if reason is not None:
        raise ModelError(reason)


def sums_to_the_difference(network: nn.Module, probes: Tensor, attribute: Attribute) -> str | None:
    """Why DeepLift is wrong for a network; None if its attributions sum to `f(x) - f(x')`."""
    # From each other, as from a black image much of a network is the same at every pixel.
    for probe, baseline in zip(probes.chunk(PROBES), probes.flip(0).chunk(PROBES), strict=True):
        for target, expected in _largest(_logits(network, probe) - _logits(network, baseline)):
            values = attribute(network, probe, baseline, target)
            if not _sums_to(expected, values):
                return (
                    f"its attributions sum to {float(values.double().sum()):.4g} in place of f(x) - f(x') = "
                    f"{expected:.4g}: Captum has no rule for a part of the network, or a wrong one"
                )
    return None


def conserves_relevance(network: nn.Module, probes: Tensor, attribute: Attribute) -> str | None:
    """Why LRP is wrong for a network; None if its relevance sums to `f(x)` in a copy of the network without biases."""
    network = without_biases(network)
    for probe in (probes - 0.5).chunk(PROBES):  # of both signs, as a normalised image is
        for target, expected in _largest(_logits(network, probe)):
            values = attribute(network, probe, torch.zeros_like(probe), target)
            if not _sums_to(expected, values):
                return (
                    f"without the network's biases its relevance sums to {float(values.double().sum()):.4g} in place "
                    f"of f(x) = {expected:.4g}: Captum's rules do not conserve it, as where branches are added"
                )
    return None


def guides_every_relu(network: nn.Module, probes: Tensor, attribute: Attribute) -> str | None:
    """Why guided backpropagation is wrong for a network; None if all of its ReLUs are modules."""
    network, calls = hookable(network, probes[:1]), 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal calls
        calls += 1

    for part in network.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(count)
    with torch.no_grad(), _Relus() as relus:
        network(probes[:1])
    if calls == 0:
        return "the network has no ReLU module that Captum could guide: the map would be the plain gradient"
    if relus.count > calls:
        return f"{relus.count - calls} of the network's {relus.count} ReLUs are no modules: Captum does not guide them"
    return None


IDENTITIES: dict[str, Callable[[nn.Module, Tensor, Attribute], str | None]] = {
    "DeepLift": sums_to_the_difference,
    "DeepLiftShap": sums_to_the_difference,
    "LRP": conserves_relevance,
    "GuidedBackprop": guides_every_relu,
    "Deconvolution": guides_every_relu,
    "GuidedGradCam": guides_every_relu,
}


def without_biases(network: nn.Module) -> nn.Module:
    """A copy of a network whose layers have no offsets."""
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for part in copied.modules():
            for name in ("bias", "running_mean"):
                offset = getattr(part, name, None)
                if isinstance(offset, Tensor):
                    offset.zero_()
    return copied


class _Relus(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the ReLUs that are computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket in (torch.ops.aten.relu, torch.ops.aten.relu_)
        return function(*args, **(kwargs or {}))


def _logits(network: nn.Module, point: Tensor) -> Tensor:
    """(classes,) of a point (1, C, H, W)."""
    with torch.no_grad():
        return logits_of(network(point), 1)[0]


def _largest(numbers: Tensor) -> list[tuple[int, float]]:
    """The classes with the largest magnitudes, and their numbers."""
    chosen = numbers.abs().topk(min(TARGETS, len(numbers))).indices.tolist()
    return [(target, float(numbers[target])) for target in chosen]


def _sums_to(expected: float, values: Tensor) -> bool:
    """Whether values have a sum, up to rounding. Values so large that rounding may be as large as the sum have not."""
    rounding = ROUNDING * float(values.double().abs().sum())
    error = abs(float(values.double().sum()) - expected)
    return rounding < abs(expected) and error <= max(TOLERANCE * abs(expected), rounding)
