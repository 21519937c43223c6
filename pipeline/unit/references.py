"""Images of the run's own data set that some methods compare with: drawn from the manifest, the same in every worker.

order = a permutation of the manifest's rows, from the run's seed
references = the first so many that decode and for which the network gives finite logits

An image that breaks the network by raising or by logits that are not finite would spoil every unit that is compared
with it; the next in the order takes its place. The choice depends on the images and the network alone, not on which
unit finds out first. Running out of memory says nothing about an image and is raised. An image that kills the process,
or hangs it, does so in every worker that draws it: the run then stops with an error.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.run.layout import reference_fault_name
from pipeline.shards.manifest import load
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import ManifestRow, Status
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json
from pipeline.unit.health import is_device_error
from ssig.engine.device import Device
from ssig.errors import UsageError
from ssig.models import Model
from ssig.randomness import stream
from ssig.types import References

STREAM = "references"
_NOT_THE_IMAGE = (OSError, MemoryError, torch.OutOfMemoryError)


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
        """`count` images, or all if there are fewer; None for 0.

        Raises:
            UsageError: not a single image of the run can be decoded.
            OSError: a shard cannot be read.
        """
        if not count:
            return None
        with self._lock:
            if count not in self._pools:
                self._pools[count] = self._read_references(count)
            return self._pools[count]

    def _read_references(self, count: int) -> References:
        images: list[Tensor] = []
        logits: list[Tensor] = []
        candidates = self._candidates()
        while len(images) < count:
            drawn = list(itertools.islice(candidates, count - len(images)))
            if not drawn:
                break
            for (row, image), answer in zip(drawn, self._answers([image for _, image in drawn]), strict=True):
                if isinstance(answer, str):
                    self._refuse(row, answer)
                else:
                    images.append(image)
                    logits.append(answer)
        if not images:
            raise UsageError("methods", "references", "a data set of which at least one image can be scored")
        return References(torch.stack(images).to(self._device.replica.device), torch.stack(logits))

    def _candidates(self) -> Iterator[tuple[ManifestRow, Tensor]]:
        """Every image that decodes, in the order in which they are drawn."""
        manifest = load(self._storage)
        units = list(manifest.units())
        starts = torch.tensor([0] + [unit.stop - unit.start for unit in units]).cumsum(0)
        urls = {shard.name: shard.url for shard in manifest.shards}
        order = stream(self._seed, "", STREAM, STREAM).generator(0).permutation(len(manifest))
        for number in order.tolist():
            unit = int(torch.searchsorted(starts, number, right=True)) - 1
            row = manifest.rows(units[unit].id)[number - int(starts[unit])]
            if row.status is Status.OK:
                for sample in read_unit(urls[row.shard], [row]):
                    if sample.image is not None:
                        yield row, self._model.preprocess(sample.image)

    def _answers(self, images: Sequence[Tensor]) -> list[Tensor | str]:
        """Each image's logits, or why it cannot be a reference."""
        try:
            logits = self._device.forward(torch.stack(list(images)))
            if bool(logits.isfinite().all()):
                return list(logits)
        except _NOT_THE_IMAGE:
            raise
        except Exception as error:
            if is_device_error(error):
                raise
            if len(images) == 1:
                return [f"{type(error).__name__}: {error}"]
        else:
            if len(images) == 1:
                return ["its logits are not finite"]
        return [self._answers([image])[0] for image in images]

    def _refuse(self, row: ManifestRow, reason: str) -> None:
        """Records a drawn image that cannot be a reference; every worker records the same."""
        record = {
            "shard": row.shard,
            "kind": "reference",
            "key": row.key,
            "offset": row.members[0].offset if row.members else None,
            "reason": f"drawn as a reference, replaced by the next: {reason}",
            "attempts": 1,
        }
        self._storage.create(reference_fault_name(row.unit, row.index), to_json(record).encode())
