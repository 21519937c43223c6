"""Networks, images and keys of the sections; with `--tiny` every network is a toy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from jobs.bench.gpu.session import Session
from ssig.acceleration import ready_replica as readiness
from ssig.engine.replica import Replica
from ssig.models import Geometry, Model, load_model

# name -> network and weights; the first that is there is used.
NETWORKS: dict[str, tuple[tuple[str, str | None], ...]] = {
    "resnet50": (("timm:resnet50", "random"), ("torchvision:resnet50", "random")),
    "vit-b16": (("timm:vit_base_patch16_224", "random"), ("torchvision:vit_b_16", "random")),
    "lite0": (("efficientnet-lite0", None), ("timm:tf_efficientnet_lite0", "random")),
}
TUNING_SECONDS = 2.5
TOY_SIDE, CLASSES = 24, 10


class Toy(nn.Module):
    """Convolutions with batch norms and clamps: (n, 3, H, W) -> (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU6(inplace=True),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(points).mean(dim=(2, 3)))
        return logits


def toy(attention: bool = False) -> nn.Module:
    """A small network, the same every time; with attention, a transformer of timm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = _transformer() if attention else Toy()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.running_var = 0.5 + torch.rand(module.num_features)
    return network.eval().requires_grad_(False)


def _transformer() -> nn.Module:
    import timm

    sizes: dict[str, Any] = {"img_size": TOY_SIDE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    network: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **sizes)
    return network


def network(session: Session, name: str, precision: str = "fp32") -> Model:
    """A network of `NETWORKS` on the device; one copy serves all precisions."""
    plain = session.cached(("network", name), lambda: _loaded(session, name))
    return Model(
        plain.network,
        name=plain.name,
        mean=plain.mean,
        std=plain.std,
        geometry=plain.geometry,
        categories=plain.categories,
        precision=precision,
        weights_hash=plain.weights_hash,
    )


def _loaded(session: Session, name: str) -> Model:
    if session.tiny:
        geometry = Geometry((TOY_SIDE, TOY_SIDE), (TOY_SIDE, TOY_SIDE))
        categories = tuple(map(str, range(CLASSES)))
        mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
        return Model(toy(), name=name, mean=mean, std=std, geometry=geometry, categories=categories).to(session.device)
    *first, (last, weights) = NETWORKS[name]
    for choice, choice_weights in first:
        try:
            return load_model(choice, choice_weights, device=session.device)
        except Exception:  # neither the package nor another's loading error must keep the next from being tried
            session.say(f"{choice} cannot be loaded; trying the next")
    return load_model(last, weights, device=session.device)


def replica(session: Session, name: str, precision: str = "fp16") -> Replica:
    """A ready replica of a network, tuned once."""

    def make() -> Replica:
        with _brief_tuning(session):
            return readiness.ready_replica(network(session, name, precision), micro_batch=session.pick(None, 8))

    return session.cached(("replica", name, precision), make)


def forget(session: Session, name: str) -> None:
    """Lets the replicas and the network of that name go."""
    session.forget(lambda key: isinstance(key, tuple) and key[1] == name)


@contextmanager
def _brief_tuning(session: Session) -> Iterator[None]:
    """Ready replicas are tuned for less time in the body: many are made, and each is used for seconds."""
    module: Any = readiness
    before = module.TUNING_SECONDS
    module.TUNING_SECONDS = session.pick(TUNING_SECONDS, 0.1)
    try:
        yield
    finally:
        module.TUNING_SECONDS = before


def pictures(count: int, size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(count, 3, H, W) in [0, 1]: smooth colours under a little noise, the same every time."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (0.9 * smooth + 0.1 * torch.rand(smooth.shape, generator=generator)).to(device)


def keys(count: int) -> list[tuple[str, str]]:
    """Keys of so many images, as in a run."""
    return [("shard.tar", f"{number:05d}") for number in range(count)]


def classes(count: int) -> Tensor:
    """(count,) int64: a class for each image."""
    return torch.arange(count) % CLASSES


def repeated(images: Tensor, count: int) -> Tensor:
    """The first `count` of the images, repeated in turn."""
    return images[torch.arange(count) % len(images)]
