"""Every method and metric on the pretend device and on the CPU; prints JSON: what was tried -> its fault, or "".

    python tests/support/on_pretend_device.py methods [all]
    python tests/support/on_pretend_device.py metrics [all]
    python tests/support/on_pretend_device.py mixes

A fault is an error, or a result that differs from the CPU's. Each choice of an option is tried once, with `all` once
for each method or metric that has it. `mixes` tries what a real device refuses: there the fault is that nothing is
raised. In a process of its own, because a device cannot be unregistered.
"""

from __future__ import annotations

import copy
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from pretend_device import NAME, Pretended, register
from torch import Tensor, nn
from torch.nn.functional import conv2d, scaled_dot_product_attention

from ssig.engine.device import Device
from ssig.engine.explainer import MethodExplainer
from ssig.engine.replica import Replica
from ssig.errors import UsageError
from ssig.estimators.samplers import SAMPLERS
from ssig.options import describe
from ssig.registry import METHODS, METRICS, MethodSpec, MetricSpec
from ssig.testing import CLASSES, example_images, explained, small_network
from ssig.types import Attribution, Evaluation, References

AnySpec = TypeVar("AnySpec", MethodSpec, MetricSpec)

# So small that every variant takes a fraction of a second.
FEW: dict[str, Any] = {
    **dict.fromkeys(("samples", "steps", "forwards"), 4),
    **dict.fromkeys(("paths", "classes", "centres", "sizes", "subsets", "blocks", "over_samples"), 2),
    **{"pool": 8, "most": 12, "anchors": 0},
}
TOLERANCE = 1e-9
CELLS = 4
IMAGES = 3
KEYS = tuple(("a.tar", str(number)) for number in range(IMAGES))


class Block(nn.Module):
    """Attention of 2 heads between tokens (n, tokens, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 36)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.mix(tokens).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return (tokens + attended).tanh()


class Attending(nn.Module):
    """A small network with attention, on images of any size that 2 divides, in float64."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.embed = nn.Conv2d(3, 12, 2, stride=2)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(12, CLASSES)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
        self.double().eval().requires_grad_(False)

    def forward(self, points: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.embed(points).flatten(2).mT).mean(dim=1))
        return logits


def variants(spec: MethodSpec | MetricSpec) -> Iterator[dict[str, Any]]:
    """Options of a method or metric: few evaluations, then each choice of each option in turn."""
    docs = describe(spec.options)
    few = {doc.name: FEW[doc.name] for doc in docs if doc.name in FEW}
    for dropped in ((), ("steps",), ("paths",), ("samples",), ("classes",), tuple(FEW)):
        base = {name: value for name, value in few.items() if name not in dropped}
        if _parses(spec, base):
            break
    yield base
    choices: dict[str, tuple[Any, ...]] = {doc.name: doc.choices for doc in docs}
    choices["sampler"] = tuple(name.replace("-N", f"-{CELLS}") for name in SAMPLERS)
    choices |= {"smoothing": (1.0,), "ties": ("random", "raster"), "compat": (True, False), "preset": ()}
    for doc in docs:
        for value in choices[doc.name]:
            changed = {**base, doc.name: value}
            if value == "auto":
                changed |= {"tolerance": 1e-6, "most": 12}
            if doc.name == "criterion":
                changed |= {"samples": "auto", "tolerance": 1e-6}
            if doc.name == "spectrum":
                changed |= {"sampler": "frequency"}
            if _parses(spec, changed):
                yield changed


def _parses(spec: MethodSpec | MetricSpec, options: Mapping[str, Any]) -> bool:
    try:
        spec.parse(dict(options))
    except UsageError:
        return False
    return True


def chosen(specs: Iterable[AnySpec], whole: bool) -> Iterator[tuple[AnySpec, dict[str, Any]]]:
    """All variants of methods or metrics, or those with a choice that none before them has."""
    tried: set[tuple[str, str]] = set()
    for spec in specs:
        for number, options in enumerate(variants(spec)):
            choices = {(name, repr(value)) for name, value in options.items()}
            if whole or number == 0 or not choices <= tried:
                yield spec, options
            tried |= choices


def method_faults(whole: bool) -> Iterator[tuple[str, str]]:
    """(method and options, fault)."""
    images = example_images()[:IMAGES]
    networks: dict[bool, nn.Module] = {True: Attending(), False: small_network()}
    on_device = {attends: copy.deepcopy(network).to(NAME) for attends, network in networks.items()}
    for spec, options in chosen(METHODS, whole):
        network, moved = (found[spec.attention] for found in (networks, on_device))
        explain = partial(explained, spec.name, keys=KEYS, **options)
        yield (
            f"{spec.name} {options or ''}".strip(),
            fault(
                lambda: _of_maps(explain(network=network, images=images), on_device=False),  # noqa: B023
                lambda: _of_maps(explain(network=moved, images=images.to(NAME)), on_device=True),  # noqa: B023
            ),
        )


def _of_maps(result: Attribution, on_device: bool) -> dict[str, Any]:
    """The numbers of an attribution, which lies where its network is."""
    numbers = {name: value for name, value in vars(result).items() if isinstance(value, Tensor)}
    for name, value in numbers.items():
        if name != "gradient_evaluations" and isinstance(value, Pretended) is not on_device:
            raise AssertionError(f"{name} is on {value.device}")
    return {name: value.cpu().numpy() for name, value in numbers.items()}


def metric_faults(whole: bool) -> Iterator[tuple[str, str]]:
    """(metric and options, fault)."""
    here, there = Batch(small_network(), "cpu"), Batch(small_network(), NAME)
    for spec, options in chosen(METRICS, whole):
        yield (
            f"{spec.name} {options or ''}".strip(),
            fault(
                lambda: _of_metric(spec, options, here.evaluation()),  # noqa: B023
                lambda: _of_metric(spec, options, there.evaluation()),  # noqa: B023
            ),
        )
    here.device.close()
    there.device.close()


class Batch:
    """Images on a device, and a network there."""

    def __init__(self, network: nn.Module, place: str) -> None:
        self.network = network
        self.device = Device(Replica(copy.deepcopy(network).to(place), micro_batch=4))
        self.images = example_images()[:IMAGES].to(place)
        self.place = place

    def evaluation(self) -> Evaluation:
        """The batch with signed maps of the host, as they are stored, and a method to call again."""
        generator = np.random.default_rng(4)
        height, width = self.images.shape[-2:]
        masks = np.zeros((IMAGES, height, width), dtype=bool)
        masks[:, 2:6, 3:9] = True
        spec, mean = METHODS["ssig"], torch.full((3,), 0.5)
        targets = torch.arange(IMAGES)
        logits = self.device.forward(self.images)
        references = References(self.images.flip(0), logits)
        explainer = MethodExplainer(
            *(self.device, spec, spec.parse({"samples": 4}), self.images, targets, KEYS, mean, "logit", 7),
            lambda count: references,
            lambda: copy.deepcopy(self.network).to(self.place),
        )
        return Evaluation(
            images=self.images,
            maps=torch.from_numpy(generator.standard_normal((IMAGES, height, width))).float(),
            targets=targets,
            forward=self.device.forward,
            mean=mean,
            std=torch.full((3,), 0.25),
            masks=tuple(masks),
            boxes=(((3.0, 2.0, 9.0, 6.0),),) * IMAGES,
            score=torch.tensor([3.0, 2.0, 1.0]),
            baseline_score=torch.tensor([1.0, 1.0, 0.0]),
            completeness_residual=torch.tensor([0.5, -0.1, 0.0]),
            logits=logits.cpu(),
            keys=KEYS,
            explainer=explainer,
            activations=self.device.activations,
            values=torch.from_numpy(generator.standard_normal((IMAGES, 3, height, width))).float(),
        )


def _of_metric(spec: MetricSpec, options: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    result = spec.compute(evaluation, spec.parse(dict(options)))
    reasons = {f"reasons {row}": dict(reasons) for row, reasons in enumerate(result.excluded)}
    return {**result.columns, **result.curves, **result.vectors, **reasons}


def fault(on_cpu: Callable[[], dict[str, Any]], on_device: Callable[[], dict[str, Any]]) -> str:
    """What is wrong with the second; empty if nothing is."""
    try:
        expected = on_cpu()
        found = on_device()
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/ssig/" in frame.filename]
        place = f"{frames[-1].filename.partition('/ssig/')[2]}:{frames[-1].lineno}: " if frames else ""
        return f"{place}{type(error).__name__}: {error}"
    different = [name for name in expected if not _equal(found.get(name), expected[name])]
    return f"other values: {', '.join(different)}" if different else ""


def _equal(found: Any, expected: Any) -> bool:
    if not isinstance(expected, np.ndarray):
        return bool(found == expected)
    return np.shape(found) == expected.shape and np.allclose(found, expected, TOLERANCE, TOLERANCE, equal_nan=True)


def mixes() -> Iterator[tuple[str, str]]:
    """(operation, "" if it is refused as CUDA refuses it)."""
    here, there = torch.rand(4, 4), torch.rand(4, 4).to(NAME)
    rows, number = torch.arange(4), torch.tensor(2.0)
    refused: dict[str, Callable[[], Any]] = {
        "add": lambda: there + here,
        "in place": lambda: there.mul_(here),
        "in place on the host": lambda: here.clone().mul_(there),
        "cat": lambda: torch.cat([there, here]),
        "stack": lambda: torch.stack([here, there]),
        "where": lambda: torch.where(there > 0.5, there, here),
        "gather": lambda: there.gather(1, rows[:, None]),
        "index_select": lambda: there.index_select(0, rows),
        "index of the device on the host": lambda: here[rows.to(NAME)],
        "matmul": lambda: there @ here,
        "convolution": lambda: conv2d(there[None, None], here[None, None]),
        "number of the device on the host": lambda: here * number.to(NAME),
        "numpy": there.numpy,
        "numpy.asarray": lambda: np.asarray(there),
    }
    for name, operation in refused.items():
        try:
            operation()
            yield name, "nothing is raised"
        except (RuntimeError, TypeError):
            yield name, ""
    allowed = {
        "number of the host": lambda: there * number,
        "index of the host": lambda: there[rows],
        "mask": lambda: there[there > 0.5],
        "copies": lambda: there.copy_(here).cpu().numpy(),
        "made there": lambda: (
            torch.eye(4, device=NAME) + torch.arange(4, device=NAME) + there.new_tensor([1, 2, 3, 4])
        ),
    }
    for name, operation in allowed.items():
        yield f"allowed: {name}", fault(lambda: {}, lambda: {"": operation()})  # noqa: B023


def main(kind: str, whole: str = "") -> None:
    register()
    torch.set_num_threads(1)
    faults = {"methods": method_faults, "metrics": metric_faults, "mixes": lambda whole: mixes()}[kind]
    print(json.dumps(dict(faults(bool(whole)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
