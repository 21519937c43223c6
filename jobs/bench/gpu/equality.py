"""Two runs with other batch compositions on one device: does "maps to 1e-4 of their norm" hold?

The second run has another micro-batch and only every other image, so that each point is evaluated beside other points
and libraries may choose other algorithms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from jobs.bench.gpu.compare import each, explained, few
from jobs.bench.gpu.networks import classes, keys, network, pictures, replica
from jobs.bench.gpu.session import RULE, Case, Session

METHODS = ("ssig", "ig", "smoothgrad", "gradient")
PLAN = (
    *(("resnet50", "fp32"), ("lite0", "fp32"), ("resnet50", "fp16"), ("lite0", "fp16")),
    *(("resnet50", "tf32"), ("resnet50", "bf16")),
)
OTHER = 13


def cases(session: Session) -> Iterator[Case]:
    """A row for each network, precision and method."""
    for name, precision in session.pick(PLAN, PLAN[:1]):
        for method in session.pick(METHODS, METHODS[:2]):
            yield (
                f"{name} {precision} {method}",
                partial(distances, session, name, precision, method),
            )


def distances(session: Session, name: str, precision: str, method: str) -> dict[str, Any]:
    """Quantiles of the relative differences of the maps, and the share of maps within the rule."""
    ready = replica(session, name, precision)
    count = session.pick(16, 4)
    images, targets, named = pictures(count, network(session, name).input_size), classes(count), keys(count)
    options = few(method, session.pick(16, 4))
    first = explained(ready, images, targets, method, keys=named, **options).map
    before = ready.micro_batch
    ready.micro_batch = OTHER if before > OTHER else max(1, before - 1)
    try:
        second = explained(ready, images[::2], targets[::2], method, keys=named[::2], **options).map
    finally:
        ready.micro_batch = before
    found = np.array(each(second, first[::2]))
    quantiles = {f"{level:.0%}": float(np.quantile(found, level)) for level in (0.5, 0.9, 1.0)}
    return {
        **quantiles,
        "share within 1e-4": float((found <= RULE).mean()),
        "bit-equal": int((found == 0).sum()),
        "maps": len(found),
    }
