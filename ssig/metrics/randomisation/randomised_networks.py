"""Networks whose layers are initialised anew, for the metrics of whether maps depend on what was learned.

Layers are the submodules that can initialise their own parameters (convolutions, linear layers, norms, ...), in
reverse order of their definition: from the logits to the input. Each draws from a seed of its own, which depends on
the run's seed and the layer's name; so the networks are the same for all images, methods, workers and devices. Norms
forget their running statistics too. Parameters that no layer can initialise, such as class tokens, stay as they are.

A network that is asked for again is explained by an optimised copy, where the explainer makes one and memory suffices:
with several methods and batches each network is asked for many times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from ssig.engine.copying import sharing
from ssig.metrics.shared.similarity import NO_METHOD
from ssig.randomness import stream
from ssig.types import Evaluation, Explainer

NO_NETWORK = "the network as it was loaded is not at hand"
NO_LAYERS = "the network has no layer that can initialise itself"

STREAM = "randomised layer"
MOST_BYTES = 1 << 30  # of optimised copies

Prepare = Callable[[nn.Module], nn.Module | None]


@dataclass(frozen=True)
class Randomised:
    """A network and its twin with every layer initialised anew.

    Attributes:
        trained: the network; not to be changed.
        random: its twin; not to be changed.
        layers: names of the layers, from the logits to the input.
    """

    trained: nn.Module
    random: nn.Module
    layers: tuple[str, ...]
    _prepared: dict[tuple[str, ...], nn.Module | None] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def network(self, names: Collection[str], prepare: Prepare | None = None) -> nn.Module:
        """The network with the layers `names` taken from the twin; its modules are the caller's, its tensors are not.

        Args:
            names: of layers.
            prepare: makes a copy that explains faster, or None.
        """
        key, mixed = tuple(names), self._mixed(names)
        with self._lock:
            if key in self._prepared and self._prepared[key] is None and prepare is not None and self._fits():
                self._prepared[key] = prepare(mixed)
            fast = self._prepared.setdefault(key, None)
        return mixed if fast is None else sharing(fast)

    def _mixed(self, names: Collection[str]) -> nn.Module:
        mixed = sharing(self.trained)
        for name in names:
            layer, random_layer = mixed.get_submodule(name), self.random.get_submodule(name)
            layer._parameters.update(random_layer._parameters)
            layer._buffers.update(random_layer._buffers)
        return mixed

    def _fits(self) -> bool:
        """Whether there is memory for one more copy; each holds its weights twice."""
        tensors = chain(self.trained.parameters(), self.trained.buffers())
        copies = 1 + sum(network is not None for network in self._prepared.values())
        return 2 * copies * sum(tensor.nbytes for tensor in tensors) <= MOST_BYTES


def randomised(evaluation: Evaluation) -> Randomised | str:
    """The run's network and its twin, kept for all batches; or why there are none."""
    explainer = evaluation.explainer
    if explainer is None:
        return NO_METHOD
    return explainer.cache(("randomised", evaluation.seed), lambda: _randomised(explainer, evaluation.seed))


def randomised_maps(evaluation: Evaluation, networks: Randomised, names: Collection[str]) -> Tensor:
    """(B, H, W), maps of the batch under the network with the layers `names` initialised anew.

    They have the targets and the random draws of the batch's own maps.
    """
    explainer = evaluation.explainer
    if explainer is None:
        raise ValueError(NO_METHOD)

    def compute() -> Tensor:
        rows = torch.arange(len(evaluation))
        return explainer.maps(evaluation.images, evaluation.targets, rows, networks.network(names, explainer.prepared))

    whole = len(names) == len(networks.layers)
    return evaluation.shared(("maps of the network with all layers randomised",), compute) if whole else compute()


def randomisable(network: nn.Module) -> tuple[str, ...]:
    """Names of the layers that can initialise their own parameters, from the logits to the input."""
    names = [
        name
        for name, module in network.named_modules()
        if _initialise(module) is not None and (module._parameters or module._buffers)
    ]
    return tuple(reversed(names))


def _randomised(explainer: Explainer, seed: int) -> Randomised | str:
    trained, random = explainer.fresh_network(), explainer.fresh_network()
    if trained is None or random is None:
        return NO_NETWORK
    layers = randomisable(trained)
    if not layers:
        return NO_LAYERS
    device = next(chain(trained.parameters(), trained.buffers())).device
    # Generators of devices differ, so all is drawn on the CPU.
    random.cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in layers:
            torch.default_generator.manual_seed(stream(seed, "", name, STREAM).key % 2**63)
            initialise = _initialise(random.get_submodule(name))
            if initialise is not None:
                initialise()
    return Randomised(trained, random.to(device), layers)


def _initialise(module: Any) -> Callable[[], None] | None:
    """The module's own initialisation; attention keeps it under a private name."""
    initialise = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    return initialise if callable(initialise) else None
