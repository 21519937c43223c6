"""What a method costs the host: processor time of its coroutine where the network's answers cost nothing.

    device thread  between an answer and the next request, on the thread that feeds the device
    caller         making the job, on the thread that asks for it
    process        all threads together

each per gradient, the least of some rounds, with one thread on the CPU, where all arithmetic is the host's. The second
table has the random numbers of one image in one sample: drawn by NumPy on the calling thread, and what is left to this
thread where a device has the numbers (tensors without numbers, torch's `meta`, stand for it; a launch is to be added).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from jobs.bench.timing import machine
from ssig.engine.jobs import group_of, method_job
from ssig.estimators.draws import Normals, uniforms
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.types import Attribution, Group, Request, Response

SIZE = 224
CLASSES = 1000
IMAGES, BUDGET = 4, 4


@dataclass(frozen=True)
class Row:
    """One line of the table: a method with options, on some images, with `budget` points an image in a request."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    images: int = IMAGES
    budget: int = BUDGET


ROWS = (
    Row("smoothgrad"),
    Row("vargrad"),
    Row("ssig"),
    Row("ssig", {"sampler": "uniform-channel"}),
    Row("ssig", {"sampler": "bernoulli"}),
    Row("ssig", {"sampler": "smooth-7"}),
    Row("ssig-signed"),
    Row("ssig-frequency"),
    Row("ssig-frequency", {"spectrum": "gains"}),
    Row("ssig-frequency", {"spectrum": "rings"}),
    Row("ssig-path"),
    Row("ig"),
    Row("ig", {"steps": 256}, images=1, budget=16),
    Row("xrai"),
    Row("ssig", {"samples": "auto", "most": 32, "tolerance": 1e-9}),
    Row("ssig", {"samples": "auto", "most": 32, "tolerance": 1e-9, "criterion": "spearman"}),
    Row("random"),
)


def measure(rounds: int = 3, rows: Sequence[Row] = ROWS, size: int = SIZE) -> dict[str, Any]:
    """The host's cost of each row.

    Args:
        rounds: how often each is run; the least time counts.
        rows: what is run.
        size: height and width of the images.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "rows": [line(row, [run(row, size, number) for number in range(rounds)]) for row in rows],
            "draws": [
                draws(kind, shape, rounds)
                for kind, shape in (
                    ("normals", (3, size, size)),
                    ("uniforms", (1, size, size)),
                    ("uniforms", (3, size, size)),
                )
            ],
            **machine(),
        }
    finally:
        torch.set_num_threads(threads)


@dataclass
class Seconds:
    """Processor time of one run, and its gradients."""

    device: float
    caller: float
    process: float
    gradients: int


def line(row: Row, runs: Sequence[Seconds]) -> dict[str, Any]:
    """The least of a row's runs, in milliseconds per gradient, or per image where a method takes none."""
    count = runs[0].gradients or row.images
    device, caller, process = (
        1000 * min(getattr(seconds, part) for seconds in runs) / count for part in ("device", "caller", "process")
    )
    return {
        "method": row.method,
        "options": " ".join(f"{name}={value}" for name, value in row.options.items()),
        "images": row.images,
        "gradients": runs[0].gradients,
        "device thread, ms": round(device, 3),
        "caller, ms": round(caller, 3),
        "process, ms": round(process, 3),
    }


def run(row: Row, size: int, number: int) -> Seconds:
    """Runs a method on images that no other number has, so that nothing is remembered from other runs."""
    spec = METHODS[row.method]
    options = spec.parse(row.options)
    generator = torch.Generator().manual_seed(number)
    group = images_of(row, size, generator, options)
    answers = torch.randn(row.images * row.budget, 3, size, size, generator=generator)
    process, caller = time.process_time(), time.thread_time()
    steps = method_job(None, spec, options, group).steps
    caller = time.thread_time() - caller
    result, device = driven(steps, lambda request: answer(request, answers))
    process = time.process_time() - process
    return Seconds(device, caller, process, int(result.gradient_evaluations.sum()))


def draws(kind: str, shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """The least processor time of the calling thread for some draws, in milliseconds per image and sample."""
    streams = tuple(stream(0, "bench", str(index), "draws") for index in range(IMAGES))
    samples = range(BUDGET)

    def numbers(device: str) -> float:
        like = torch.empty(0, device=device)
        started = time.thread_time()
        if kind == "normals":
            Normals(streams, samples, shape, like).take(streams)
        else:
            uniforms(streams, samples, shape, like)
        return 1000 * (time.thread_time() - started) / (len(streams) * len(samples))

    here, there = (min(numbers(device) for _ in range(rounds)) for device in ("cpu", "meta"))
    return {
        "draws": kind,
        "shape": "x".join(map(str, shape)),
        "calling thread draws, ms": round(here, 3),
        "device has them, ms": round(there, 4),
    }


def images_of(row: Row, size: int, generator: torch.Generator, options: Any) -> Group:
    """A group of smooth random images: segments of noise are tiny and many."""
    coarse = torch.rand(row.images, 3, 14, 14, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    streams = tuple(stream(0, "bench", str(index), row.method) for index in range(row.images))
    targets = torch.zeros(row.images, dtype=torch.int64)
    group = group_of(options, images, targets, streams, mean=torch.full((3,), 0.5))
    return replace(group, budget=row.budget)


def driven(steps: Any, answered: Callable[[Request], Response]) -> tuple[Attribution, float]:
    """A coroutine's result, and the processor time of this thread inside of it."""
    seconds = 0.0
    response: Response | None = None
    while True:
        started = time.thread_time()
        try:
            request = steps.send(response)
        except StopIteration as stop:
            result: Attribution = stop.value
            return result, seconds + time.thread_time() - started
        seconds += time.thread_time() - started
        if request.until is not None:
            request.until.result()
        response = answered(request) if request.until is None else None


def answer(request: Request, gradients: torch.Tensor) -> Response:
    """What a network without cost returns: the first of some gradients."""
    count = len(request.points)
    return Response(
        scores=gradients.new_zeros(count) if "score" in request.want else None,
        gradients=gradients[:count] if "gradient" in request.want else None,
        logits=gradients.new_zeros(count, CLASSES) if "logits" in request.want else None,
    )
