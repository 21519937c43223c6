"""CUDA graphs: gradients a second of the network as loaded, launched and replayed, and of the engine with them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jobs.bench.gpu.compare import relative
from jobs.bench.gpu.networks import network, pictures, repeated, replica
from jobs.bench.gpu.session import LEFT_OUT, Case, Session
from jobs.bench.gpu.timing import rate
from ssig.acceleration.ready_replica import ready_replica
from ssig.models import Model
from ssig.types import SCORE_AND_GRADIENT

SIZES = (1, 8, 32, 128)
NETWORKS = ("resnet50", "lite0", "vit-b16")
WARM = 3


def cases(session: Session) -> Iterator[Case]:
    """A row for each network and number of points, in fp16."""
    if not session.on_gpu:
        yield "all", lambda: {LEFT_OUT: "CUDA graphs need a GPU"}
        return
    for name in NETWORKS:
        for size in SIZES:
            yield f"{name} fp16, {size} points", partial(_row, session, name, size)
    for name in NETWORKS:
        yield f"{name} fp16, the engine", partial(_engine, session, name)


def _row(session: Session, name: str, size: int) -> dict[str, Any]:
    model = network(session, name, "fp16")
    points = repeated(pictures(8, model.input_size), size).to(session.device, memory_format=torch.channels_last)
    points.requires_grad_()
    launched = rate(session, lambda: gradients(model, points), size, 0.2)
    graph, answer = captured(model, points)
    replayed = rate(session, graph.replay, size, 0.2)
    difference = relative(answer, gradients(model, points))
    return {"launched": launched, "replayed": replayed, "gain": replayed / launched, "difference": difference}


def _engine(session: Session, name: str) -> dict[str, Any]:
    """The bare loop of ready replicas without and with graphs, at one micro-batch."""
    plain = replica(session, name, "fp16")
    recorded = ready_replica(network(session, name, "fp16"), micro_batch=plain.micro_batch, compile="cuda-graphs")
    points = repeated(pictures(8, network(session, name).input_size), plain.micro_batch).to(session.device)
    targets = torch.zeros(len(points), dtype=torch.int64)
    speeds = [
        rate(session, partial(one.evaluate, points, targets, "logit", SCORE_AND_GRADIENT), len(points), 0.3)
        for one in (plain, recorded)
    ]
    return {"launched": speeds[0], "replayed": speeds[1], "gain": speeds[1] / speeds[0]}


def captured(model: Model, points: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph that computes the gradients at whatever the points hold, and where it writes them."""
    side = torch.cuda.Stream(points.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(points.device))
    with torch.cuda.stream(side):
        for _ in range(WARM):
            gradients(model, points)
    torch.cuda.current_stream(points.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answer = gradients(model, points)
    return graph, answer


def gradients(model: Model, points: Tensor) -> Tensor:
    """Of the first logit, (n, C, H, W)."""
    (found,) = torch.autograd.grad(model(points)[:, 0].sum(), points)
    return found
