"""Prints as JSON how often the device's thread waits for a pretend device, by method and operation."""

from __future__ import annotations

import json
from collections import Counter

import pretend_device
import torch

from ssig.engine.device import Device
from ssig.engine.explainer import MethodExplainer
from ssig.engine.replica import Replica
from ssig.registry import METHODS
from ssig.testing import small_network

METHOD_NAMES = ("ssig", "ssig-signed", "ig", "smoothgrad", "grad-cam")


def main() -> None:
    pretend_device.register()
    device = Device(Replica(small_network().float().to(pretend_device.NAME), micro_batch=4))
    images, targets = torch.rand(4, 3, 10, 12), torch.arange(4)
    keys = tuple(("s", str(k)) for k in range(len(images)))
    found: dict[str, dict[str, int]] = {}
    for name in METHOD_NAMES:
        spec = METHODS[name]
        mean = torch.full((3,), 0.5)
        explainer = MethodExplainer(device, spec, spec.parse({}), images, targets, keys, mean=mean)
        pretend_device.waits.clear()
        explainer.maps(images, targets, torch.arange(len(images)))
        waited = Counter(pretend_device.waits)
        found[name] = {operation: count for (thread, operation), count in waited.items() if thread == "device"}
    device.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
