"""Records passes on a GPU as CUDA graphs (`ssig.engine.graphs`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssig.acceleration.accelerator import elapsed
from ssig.engine.accelerators import release_memory
from ssig.engine.graphs import Compute, Seconds, outputs
from ssig.types import Response

# Passes on the recording stream before it records: libraries allocate their workspaces there.
WARM_UPS = 2
# Relative L2 distances of replayed answers: libraries may choose other kernels for another stream.
TOLERANCES = {"fp32": 1e-4, "tf32": 1e-3, "fp16": 1e-2, "bf16": 1e-2}


class CudaRecorder:
    """The `ssig.engine.graphs.Recorder` of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def record(self, compute: Compute, points: Tensor, targets: Tensor) -> Compute:
        """A CUDA graph of `compute`, with memory of its own for inputs, steps and answers."""
        with torch.cuda.device(self._device):
            # The graph reads its inputs from the same memory each time.
            static = points.clone(), targets.clone()
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    compute(*static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # By default a capture fails when any other thread copies or allocates.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                response = compute(*static)

        def replay(points: Tensor, targets: Tensor) -> Response:
            static[0].copy_(points)
            static[1].copy_(targets)
            with torch.cuda.device(self._device):
                graph.replay()
            # Copies: the next replay writes to the same memory.
            return Response(*(None if values is None else values.clone() for values in outputs(response)))

        return replay

    def elapsed(self, call: Callable[[], object]) -> Seconds:
        return elapsed(self._device, call)

    def release(self) -> None:
        release_memory(self._device)
