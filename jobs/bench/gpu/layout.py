"""Gradients a second by memory layout, of the network as loaded and as it is made ready."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from jobs.bench.gpu.networks import network, pictures, repeated
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import rate
from ssig.acceleration.optimise import optimised

FORMS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def cases(session: Session) -> Iterator[Case]:
    """A row for each network, precision and layout."""
    for name in ("lite0", "resnet50"):
        for precision in session.pick(("fp16", "fp32"), ("fp32",)):
            for form in FORMS:
                for ready in (False, True):
                    label = f"{name} {precision}, {'ready' if ready else 'as loaded'}, {form}, gradients/s"
                    yield (
                        label,
                        partial(_rate, session, (name, precision), form, ready),
                    )


def _rate(session: Session, chosen: tuple[str, str], form: str, ready: bool) -> float:
    model = network(session, *chosen)
    size = session.pick(128, 4)
    points = repeated(pictures(8, model.input_size), size).to(session.device)
    made: nn.Module = model
    if ready:
        made = optimised(model, points[:1], precision=chosen[1]).network
    run: Any = copy.deepcopy(made).to(memory_format=FORMS[form])
    points = points.contiguous(memory_format=FORMS[form]).requires_grad_()
    return rate(session, lambda: torch.autograd.grad(run(points)[:, 0].sum(), points), size, 0.2)
