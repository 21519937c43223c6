"""`package.module:callable`: networks of the user's own code, made ready to be explained.

What is odd in one way or another is put right here once, on the CPU: wrappers are taken off, lazy modules get their
shapes, weights that hooks compute (weight norm, pruning) become plain tensors that can be copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ssig.errors import ModelError
from ssig.models.independence import mode_is_fixed
from ssig.models.outputs import logits_of, two_classes
from ssig.models.preparation import Stated, by_attributes, by_timm, by_transforms

QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.nn.quantized",
    "torch.nn.intrinsic.quantized",
)
# What wraps a network, and the attribute that it is under: several devices, and `torch.compile`.
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
DTYPES = (torch.float16, torch.bfloat16, torch.float64)


def built(factory: Any, name: str) -> tuple[nn.Module, object]:
    """The network that a callable returns, inside of its wrappers, and the transforms beside it or None.

    Args:
        factory: takes no arguments; returns an `nn.Module`, or a pair of one and its transforms.
        name: for messages.

    Raises:
        ModelError: it fails, or returns something else, or a quantised network.
    """
    try:
        returned = factory()
    except Exception as error:  # whatever the user's code raises
        raise ModelError(f"{name}: failed with {type(error).__name__}: {error}") from error
    network, transforms = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    if not isinstance(network, nn.Module):
        raise ModelError(f"{name}: returned a {type(returned).__name__}; expected an nn.Module")
    while type(network).__name__ in WRAPPERS:
        network = getattr(network, WRAPPERS[type(network).__name__])
    return network, transforms


def ready(network: nn.Module, name: str) -> nn.Module:
    """The network on the CPU, in float32, in evaluation mode.

    Raises:
        ModelError: it is quantised.
    """
    for inner, module in network.named_modules():
        if type(module).__module__.startswith(QUANTISED):
            raise ModelError(f"{name}: a quantised network has no gradients ({inner or 'it'} is a {_kind(module)})")
        if mode_is_fixed(module):
            # Its mode is that of its operations, and the switch is only a flag that torch forbids to touch.
            for switch in ("train", "eval"):
                vars(module).pop(switch, None)
    network = network.cpu().eval()
    return network.float() if other_types(network) else network


def other_types(network: nn.Module) -> str:
    """Floating-point types of weights beside float32, for people; empty where there are none."""
    known = (parameter for parameter in network.parameters() if not is_lazy(parameter))  # type: ignore[redundant-expr]
    found = {str(parameter.dtype).removeprefix("torch.") for parameter in known if parameter.dtype in DTYPES}
    return ", ".join(sorted(found))


def settled(network: nn.Module, size: tuple[int, int], name: str) -> int:
    """Evaluates an image of zeros once, with frozen weights, and gives the number of classes.

    Lazy modules take their shapes from it. Hooks compute weights anew, from frozen ones, so that they can be copied.

    Args:
        network: is changed so.
        size: (H, W) of the input.
        name: for messages.

    Raises:
        ModelError: it gives no logits.
    """
    example = torch.zeros(1, 3, *size)
    try:
        with torch.no_grad():
            if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
                network(example)
            for parameter in network.parameters():
                parameter.requires_grad_(False)
            logits = two_classes(logits_of(network(example), 1))
        _, classes = logits.shape
    except Exception as error:  # whatever the user's network raises
        problem = f"a batch {tuple(example.shape)} gave no logits (1, classes)"
        reason = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        advice = (
            "; its attribute input_size is that of images, H or (H, W)"
            if hasattr(network, "input_size")
            else "; the size of its input is its attribute input_size, or --set model.input=SIZE"
        )
        raise ModelError(f"{name}: {problem}: {reason}{advice}") from error
    return int(classes)


def statements(network: nn.Module, factory: object, transforms: object, name: str) -> list[Stated]:
    """All that is stated of the network's input, what is nearest to the network first."""
    found = [by_attributes(network, f"attributes of {name}", name)]
    if factory is not type(network):
        found.append(by_attributes(factory, f"attributes of {name}", name))
    if transforms is not None:
        found.append(by_transforms(transforms, f"transforms of {name}", name))
    for attribute in ("transforms", "weights"):
        value = getattr(network, attribute, None)
        if value is not None and _states_input(value):
            found.append(by_transforms(value, f"{attribute} of {name}", name))
    timm = by_timm(network)
    return found if timm is None else [*found, timm]


def categories_of(network: nn.Module, classes: int, known: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The names of the classes that the network carries: a list, or a mapping from number to name.

    Args:
        network: with or without an attribute `categories`, or a `config.id2label` as classifiers of transformers have.
        classes: how many there are.
        known: names for a network that carries none.
        name: for messages.

    Raises:
        ModelError: there is not one name for each class.
    """
    given = getattr(network, "categories", None)
    if given is None:
        given = getattr(getattr(network, "config", None), "id2label", None)
        # Where nobody has named the classes, transformers call them LABEL_0, LABEL_1, ….
        if not isinstance(given, Mapping) or len(given) != classes or "LABEL_0" in given.values():
            return known
    if isinstance(given, Mapping):
        given = [given[key] for key in sorted(given, key=lambda key: (_number(key), str(key)))]
    names = tuple(map(str, given))
    if len(names) == 1 and classes == 2:
        names = (f"not {names[0]}", names[0])
    if len(names) != classes:
        raise ModelError(f"{name}: has {len(names)} categories for {classes} classes")
    return names


def _number(key: object) -> float:
    try:
        return float(str(key))
    except ValueError:
        return math.inf


def _states_input(value: object) -> bool:
    return (
        hasattr(value, "meta") or hasattr(value, "crop_size") or isinstance(getattr(value, "transforms", None), list)
    )


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
