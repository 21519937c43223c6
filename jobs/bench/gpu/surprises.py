"""What users do and the network's device must survive: plain functions, images elsewhere, a class out of range."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import ssig
from jobs.bench.gpu.networks import CLASSES, TOY_SIDE, pictures, toy
from jobs.bench.gpu.session import Case, Session
from ssig.errors import SsigError, one_line

OUT_OF_RANGE = 5000
SECONDS = 60


def cases(session: Session) -> Iterator[Case]:
    """Calls of the library on a network of the device, and a class that the network does not have."""
    network = toy().to(session.device)
    images = pictures(1, (TOY_SIDE, TOY_SIDE), session.device)

    def function(points: Tensor) -> Tensor:
        logits: Tensor = network(points)
        return logits

    calls: dict[str, Callable[[], Any]] = {
        "IntegratedGradients of a module": lambda: ssig.IntegratedGradients(network).attribute(images, target=1),
        "SuppressionIG of a module": lambda: ssig.SuppressionIG(network).attribute(images, target=1),
        "IntegratedGradients of a function": lambda: ssig.IntegratedGradients(function).attribute(images, target=1),
        "attribute with a function": lambda: ssig.attribute(function, images, 1, "ig").map,
        "attribute with a module": lambda: ssig.attribute(network, images, 1, "ig").map,
        "attribute with images on the CPU": lambda: ssig.attribute(network, images.cpu(), 1, "ig").map,
    }
    for name, call in calls.items():
        yield name, partial(_place, call)
    if session.on_gpu:
        yield "a class out of range", partial(_elsewhere, session)
    else:
        yield "a class out of range", partial(out_of_range, session.device)


def _place(call: Callable[[], Any]) -> str:
    return f"a result on {call().device}"


def out_of_range(device: torch.device) -> dict[str, Any]:
    """What a class that the network does not have gives, and whether the device answers afterwards."""
    network = toy().to(device)
    images = pictures(1, (TOY_SIDE, TOY_SIDE), device)
    try:
        ssig.attribute(network, images, OUT_OF_RANGE, "gradient")
        answer = "no error"
    except SsigError as error:
        answer = f"a clear error: {error}"
    except Exception as error:
        answer = f"another error: {one_line(error)}"
    try:
        after = bool(torch.isfinite(ssig.attribute(network, images, CLASSES - 1, "gradient").map).all())
    except Exception as error:
        return {"answer": answer, "afterwards": one_line(error)}
    return {"answer": answer, "afterwards": "a result" if after else "a map that is not finite"}


def _elsewhere(session: Session) -> dict[str, Any]:
    """The same in a process of its own, since an assert on the device would end all work of this one."""
    code = (
        "import json, torch\n"
        "from jobs.bench.gpu.surprises import out_of_range\n"
        f"print(json.dumps(out_of_range(torch.device({str(session.device)!r}))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=min(SECONDS, max(5.0, session.left())),
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"answer": "the process died", "why": done.stderr.splitlines()[-1:]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
