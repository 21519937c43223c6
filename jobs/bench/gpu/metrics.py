"""Maps a second of the metrics that evaluate the network, as in a run: images on the device, maps on the host."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from jobs.bench.gpu.networks import classes, keys, network, pictures, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration
from jobs.bench.gpu.units import attributed
from ssig.engine.device import Device
from ssig.registry import METRICS
from ssig.types import Evaluation, evaluation_of

# metric -> options, and images that are measured.
PLAN: dict[str, tuple[dict[str, Any], int]] = {
    "insertion": ({}, 16),
    "deletion": ({}, 16),
    "diffid": ({}, 16),
    "sensitivity_n": ({"subsets": 10, "sizes": 4}, 4),
    "infidelity": ({}, 4),
    "certainty": ({}, 16),
    "road": ({}, 2),
    "aic": ({"min_probability": 0.0}, 4),
}


def cases(session: Session) -> Iterator[Case]:
    """Each metric on maps of ssig-signed on ResNet-50 in fp16."""
    model = network(session, "resnet50", "fp16")
    device = Device(replica(session, "resnet50", "fp16"))
    try:
        count = session.pick(16, 2)
        images, targets = pictures(count, model.input_size), classes(count)
        maps = attributed(device, images, targets, "ssig-signed", 4, model.mean)
        logits = device.forward(images).cpu()

        def evaluation(rows: int) -> Evaluation:
            return evaluation_of(
                images[:rows].to(device.replica.device),
                maps[:rows],
                logits[:rows].argmax(dim=1),
                device.forward,
                model,
                logits=logits[:rows],
                batch=max(64, device.replica.micro_batch),
                keys=tuple(keys(rows)),
            )

        for name, (given, rows) in PLAN.items():
            if name in METRICS.names():
                yield (
                    name,
                    partial(_rates, session, name, given, [evaluation(1), evaluation(min(rows, count))]),
                )
    finally:
        device.close()


def _rates(session: Session, name: str, given: dict[str, Any], evaluations: list[Evaluation]) -> dict[str, float]:
    """Maps and forward evaluations a second, after one map that is not timed."""
    spec = METRICS[name]
    options = spec.parse({key: value for key, value in given.items() if key in spec.options.__dataclass_fields__})
    first, all_maps = evaluations
    spec.compute(first, options)
    seconds = duration(session, lambda: spec.compute(all_maps, options))
    return {"maps/s": len(all_maps) / seconds, "forwards/s": len(all_maps) * spec.forwards(options) / seconds}
