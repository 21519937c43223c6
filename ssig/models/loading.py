"""`load_model`, and the transfer of a loaded model to a worker, which reads neither files nor hubs."""

from __future__ import annotations

import copy
import os
import warnings as python_warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssig.errors import UsageError
from ssig.models import checkpoint
from ssig.models.checks import examine
from ssig.models.geometry import Geometry
from ssig.models.model import Model, check_precision
from ssig.models.preparation import by_job, input_warnings
from ssig.models.sources import RANDOM, CallableSource, find_source, runs_code
from ssig.models.weight_files import is_weight_file
from ssig.registry.sources import Source

# Random initialisation must be the same in every process, or a resumed run would have another network.
INITIAL_SEED = 0

Weights = str | os.PathLike[str]


class ModelWarning(UserWarning):
    """A warning about a loaded network; also in `Model.warnings`."""


@dataclass(frozen=True)
class ModelState:
    """A picklable copy of a model on the CPU, for another process.

    Attributes:
        name: as given to `load_model`.
        network: the network, if its class comes from a library.
        tensors: its state dict, if the network is user code that is imported again by name.
        mean, std, geometry, categories, precision, weights_hash, input_source, warnings, one_at_a_time: of the model.
        source: the file or the plug-in with the network's code; a file's content is included.
    """

    name: str
    network: nn.Module | None
    tensors: dict[str, Any] | None
    mean: Tensor
    std: Tensor
    geometry: Geometry
    categories: tuple[str, ...]
    precision: str
    weights_hash: str
    input_source: str
    warnings: tuple[str, ...]
    one_at_a_time: bool
    source: Source | None = None


def load_model(
    name: str,
    weights: Weights | None = None,
    *,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input: Geometry | Mapping[str, Any] | int | Sequence[int] | None = None,
) -> Model:
    """Loads a network, and checks that it treats each image of a batch by itself.

    Problems that do not prevent its use are in `Model.warnings`, and are issued as `ModelWarning`.

    Args:
        name: in one of the forms of `ssig.models.sources`, such as `timm:NAME` or `./FILE.py:callable`.
        weights: None for the source's pretrained default; ``random`` (or ``none``) for a fixed random
            initialisation; a path to a checkpoint (`ssig.models.weight_files`); for torchvision also the name of its
            weights.
        device: of the model; by default the CPU.
        precision: ``fp32`` or ``tf32``, or ``fp16`` or ``bf16`` to run under autocast.
        mean, std: three numbers each, per channel of images in [0, 1], in place of the network's own.
        input: how an image becomes an input, in place of the network's own: a `Geometry`; the size; or any of ``size``
            (H or (H, W)), ``resize`` (shorter edge, or (height, width)), ``interpolation``, ``crop`` (center, squash).

    Raises:
        UsageError: an unknown name, weights, device, precision or input, or a file that does not exist.
        ModelError: the weights cannot be downloaded or read, or do not fit the network; or the network is random,
            mixes the images of a batch, is quantised, or returns no logits.
    """
    check_precision(precision)
    job = by_job(mean, std, input)
    target = _device(device)
    source, bare = find_source(name)
    path, named = _parse(weights)
    source.check(bare, RANDOM if path else named)
    with _fixed_random_state():
        blueprint = source.load(bare, RANDOM if path else named, job)
    network, prepared = blueprint.network, blueprint.prepared
    notes: list[str] = []
    if path:
        checkpoint.load_into(network, checkpoint.read(path, notes), path, by_order=source.by_order)
    model = Model(
        network,
        name=name,
        mean=torch.tensor(prepared.mean, dtype=torch.float32),
        std=torch.tensor(prepared.std, dtype=torch.float32),
        geometry=prepared.geometry,
        categories=blueprint.categories,
        input_source=prepared.source,
        source=source.foreign if isinstance(source, CallableSource) else None,
    )
    _examine(model, (*notes, *blueprint.warnings, *input_warnings(prepared.mean, prepared.std)))
    # Set after the checks, because rounding to low precision would hide what they look for.
    model.precision = precision
    return model.to(target)


def _examine(model: Model, notes: tuple[str, ...]) -> None:
    """Checks a model, and issues all warnings and `notes` at the caller of `load_model`."""
    examined = examine(model)
    model.one_at_a_time = examined.one_at_a_time
    model.warnings = (*notes, *examined.warnings)
    for warning in model.warnings:
        python_warnings.warn(f"{model.name}: {warning}", ModelWarning, stacklevel=3)


def resolve(name: str, weights: Weights | None = None) -> None:
    """Checks a name and its weights, without building or downloading anything.

    Raises:
        UsageError: an unknown name, unknown weights, or a file that does not exist.
        ModelError: a user's module that cannot be imported.
    """
    source, bare = find_source(name)
    path, named = _parse(weights)
    source.check(bare, RANDOM if path else named)


def export(model: Model) -> ModelState:
    """The state of a model, for `restore` in another process."""
    tensors = network = None
    if model.source is not None or runs_code(model.name):
        # Copied as a whole, because the versions of submodules are stored beside the entries.
        tensors = copy.deepcopy(model.network.state_dict())
        for entry, value in list(tensors.items()):
            tensors[entry] = value.cpu() if isinstance(value, Tensor) else value
    else:
        network = copy.deepcopy(model.network).cpu()
    return ModelState(
        name=model.name,
        network=network,
        tensors=tensors,
        mean=model.mean.cpu().clone(),
        std=model.std.cpu().clone(),
        geometry=model.geometry,
        categories=model.categories,
        precision=model.precision,
        weights_hash=model.weights_hash,
        input_source=model.input_source,
        warnings=model.warnings,
        one_at_a_time=model.one_at_a_time,
        source=model.source,
    )


def restore(state: ModelState, *, device: torch.device | str | None = None) -> Model:
    """The model from a state of `export`; it shares nothing with the state.

    Args:
        state: the state; a user's network must be importable here too.
        device: of the model; by default the CPU.
    """
    target = _device(device)
    if state.network is not None:
        network = copy.deepcopy(state.network)
    else:
        with _fixed_random_state():
            network = CallableSource(state.source).build(state.name, state.geometry.crop)
        checkpoint.load_into(network, state.tensors or {}, f"of {state.name}")
    model = Model(
        network,
        name=state.name,
        mean=state.mean.clone(),
        std=state.std.clone(),
        geometry=state.geometry,
        categories=state.categories,
        precision=state.precision,
        weights_hash=state.weights_hash,
        input_source=state.input_source,
        warnings=state.warnings,
        one_at_a_time=state.one_at_a_time,
        source=state.source,
    )
    return model.to(target)


def _parse(weights: Weights | None) -> tuple[Path | None, str | None]:
    """The file that `weights` names, or else the name of a source's weights."""
    if weights is None:
        return None, None
    text = os.fspath(weights)
    if text.lower() in (RANDOM, "none"):
        return None, RANDOM
    path = Path(text).expanduser()
    if isinstance(weights, os.PathLike) or is_weight_file(text) or len(path.parts) > 1:
        return checkpoint.find(path), None
    return None, text


def _device(device: torch.device | str | None) -> torch.device:
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError) as error:
        raise UsageError("device", str(device), "cpu, or a device that torch finds here, such as cuda:0") from error


@contextmanager
def _fixed_random_state() -> Iterator[None]:
    """Gives torch's global CPU generator a fixed state in the body, and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(INITIAL_SEED)
        yield
