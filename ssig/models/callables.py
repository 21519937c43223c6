"""`package.module:callable`: networks from the user's code, prepared for explanation.

The network is prepared once, on the CPU: wrappers are removed, lazy modules get their shapes, and weights that hooks
compute (weight norm, pruning) become plain tensors that can be copied.
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
# Wrapper class -> the attribute that holds the network: parallel training and `torch.compile`.
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
DTYPES = (torch.float16, torch.bfloat16, torch.float64)


def build(factory: Any, name: str) -> tuple[nn.Module, object]:
    """The network that a callable returns, without wrappers, and its transforms or None.

    Args:
        factory: takes no arguments; returns an `nn.Module`, or a pair (module, transforms).
        name: for messages.

    Raises:
        ModelError: the factory fails or returns something else.
    """
    try:
        returned = factory()
    except Exception as error:  # user code may raise anything
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
        ModelError: the network is quantised.
    """
    for inner, module in network.named_modules():
        if type(module).__module__.startswith(QUANTISED):
            raise ModelError(f"{name}: a quantised network has no gradients ({inner or 'it'} is a {_kind(module)})")
        if mode_is_fixed(module):
            # Its operations have a fixed mode. torch forbids to switch the flag, so the refusing methods are removed.
            for switch in ("train", "eval"):
                vars(module).pop(switch, None)
    network = network.cpu().eval()
    return network.float() if other_types(network) else network


def other_types(network: nn.Module) -> str:
    """Floating-point types of weights other than float32, as text; empty if there are none."""
    parameters = (weight for weight in network.parameters() if not is_lazy(weight))  # type: ignore[redundant-expr]
    types = {str(parameter.dtype).removeprefix("torch.") for parameter in parameters if parameter.dtype in DTYPES}
    return ", ".join(sorted(types))


def freeze(network: nn.Module, size: tuple[int, int], name: str) -> int:
    """Freezes the weights, evaluates an image of zeros once, and returns the number of classes.

    Lazy modules get their shapes from this call. Hooks recompute weights from frozen ones, which can then be copied.

    Args:
        network: is changed in place.
        size: (H, W) of the input.
        name: for messages.

    Raises:
        ModelError: the network fails or returns no logits.
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
    except Exception as error:  # a user's network may raise anything
        problem = f"a batch {tuple(example.shape)} gave no logits (1, classes)"
        reason = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        advice = (
            "; its attribute input_size is that of images, H or (H, W)"
            if hasattr(network, "input_size")
            else "; the size of its input is its attribute input_size, or --set model.input=SIZE"
        )
        raise ModelError(f"{name}: {problem}: {reason}{advice}") from error
    return int(classes)


def input_statements(network: nn.Module, factory: object, transforms: object, name: str) -> list[Stated]:
    """All statements on the network's input, in order of precedence: attributes of the network first."""
    statements = [by_attributes(network, f"attributes of {name}", name)]
    if factory is not type(network):
        statements.append(by_attributes(factory, f"attributes of {name}", name))
    if transforms is not None:
        statements.append(by_transforms(transforms, f"transforms of {name}", name))
    for attribute in ("transforms", "weights"):
        value = getattr(network, attribute, None)
        if value is not None and _states_input(value):
            statements.append(by_transforms(value, f"{attribute} of {name}", name))
    timm = by_timm(network)
    return statements if timm is None else [*statements, timm]


def categories_of(network: nn.Module, classes: int, default: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The class names stored in the network, as a list or as a mapping from number to name.

    Args:
        network: may have an attribute `categories`, or `config.id2label` as classifiers of transformers do.
        classes: the number of classes.
        default: names for a network that stores none.
        name: for messages.

    Raises:
        ModelError: the number of names differs from the number of classes.
    """
    categories = getattr(network, "categories", None)
    if categories is None:
        categories = getattr(getattr(network, "config", None), "id2label", None)
        # transformers call unnamed classes LABEL_0, LABEL_1, ….
        if not isinstance(categories, Mapping) or len(categories) != classes or "LABEL_0" in categories.values():
            return default
    if isinstance(categories, Mapping):
        categories = [categories[key] for key in sorted(categories, key=lambda key: (_number(key), str(key)))]
    names = tuple(map(str, categories))
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
