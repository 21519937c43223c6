"""Images of the run's own data set that some methods compare with: drawn from the manifest, the same in every worker.

order = a permutation of the manifest's rows, from the run's seed;  references = the first so many that decode
"""

from __future__ import annotations

import threading

import torch

from pipeline.manifest import load
from pipeline.records import Status
from pipeline.shards import read_unit
from pipeline.storage import Storage
from ssig.device import Device
from ssig.errors import UsageError
from ssig.models import Model
from ssig.randomness import stream
from ssig.types import References

STREAM = "references"


class ReferencePool:
    """Reads references when a method first wants them, and keeps them.

    Args:
        storage: the run, for its manifest.
        model: preprocesses them.
        device: gives their logits.
        seed: of the run.
    """

    def __init__(self, storage: Storage, model: Model, device: Device, seed: int) -> None:
        self._storage = storage
        self._model = model
        self._device = device
        self._seed = seed
        self._lock = threading.Lock()
        self._pools: dict[int, References] = {}

    def __call__(self, count: int) -> References | None:
        """So many images, all that there are if they are fewer; None if none are wanted.

        Raises:
            UsageError: not a single image of the run can be decoded.
            OSError: a shard cannot be read.
        """
        if not count:
            return None
        with self._lock:
            if count not in self._pools:
                self._pools[count] = self._read(count)
            return self._pools[count]

    def _read(self, count: int) -> References:
        manifest = load(self._storage)
        units = list(manifest.units())
        starts = torch.tensor([0] + [unit.stop - unit.start for unit in units]).cumsum(0)
        urls = {shard.name: shard.url for shard in manifest.shards}
        order = stream(self._seed, "", STREAM, STREAM).generator(0).permutation(len(manifest))
        images = []
        for number in order.tolist():
            unit = int(torch.searchsorted(starts, number, right=True)) - 1
            row = manifest.rows(units[unit].id)[number - int(starts[unit])]
            if row.status is Status.OK:
                images += [
                    self._model.preprocess(sample.image)
                    for sample in read_unit(urls[row.shard], [row])
                    if sample.image is not None
                ]
            if len(images) == count:
                break
        if not images:
            raise UsageError("methods", "references", "a data set of which at least one image can be decoded")
        stacked = torch.stack(images)
        return References(stacked.to(self._device.replica.device), self._device.forward(stacked))
