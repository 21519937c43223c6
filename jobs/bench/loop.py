"""The bare gradient loop: `python -m jobs.bench.loop MODEL THREADS MICRO_BATCH SECONDS`.

Prints a line when the network is loaded, waits for a line, and prints gradients per second.
"""

from __future__ import annotations

import sys
import time

import torch

from ssig.acceleration.ready_replica import ready_replica
from ssig.models import load_model
from ssig.types import SCORE_AND_GRADIENT

WARM_UP = 3


def main(model: str, threads: int, micro_batch: int, seconds: float) -> None:
    torch.set_num_threads(threads)
    network = load_model(model)
    replica = ready_replica(network, micro_batch=micro_batch)
    points = torch.rand(micro_batch, 3, *network.input_size)
    targets = torch.zeros(micro_batch, dtype=torch.int64)
    for _ in range(WARM_UP):
        replica.evaluate(points, targets, "logit", SCORE_AND_GRADIENT)
    print("ready", flush=True)
    sys.stdin.readline()
    gradients, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        replica.evaluate(points, targets, "logit", SCORE_AND_GRADIENT)
        gradients += micro_batch
    print(gradients / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
