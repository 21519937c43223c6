"""The shards of a job: those that it names, or those that its images are packed into, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.driver.progress import Listener, Progress
from pipeline.job.configuration import Job
from pipeline.run.layout import SHARDS
from pipeline.shards.own_data import Gathered, OwnData, gather, numbered
from pipeline.shards.pack import SHARD_SIZE, Packing
from pipeline.shards.packed import (
    About,
    Files,
    check_source,
    look,
    planned,
    read_record,
    refuse_changes,
    write_record,
)
from pipeline.shards.patterns import expand
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from ssig.models import Model


@dataclass(frozen=True)
class Unpacked:
    """Images that are still to be packed.

    Attributes:
        storage: of the folder of the shards.
        name: what the shards are called.
        data: where the images are.
        gathered: what was found there.
        files: the files of the source before they were read.
        shards: the names of the shards that are needed.
        labelled: whether every image must have a class.
    """

    storage: Storage
    name: str
    data: OwnData
    gathered: Gathered
    files: Files
    shards: tuple[str, ...]
    labelled: bool

    def pack(self, model: Model, listener: Listener, progress: Progress) -> None:
        """Packs them, with the class numbers of the network, and records that last.

        Raises:
            UsageError: a class that the network does not have, too little space, or a source that changes meanwhile.
        """
        classes, items = numbered(self.gathered, model.categories, strict=self.labelled)

        def tell(done: int, of: int) -> None:
            progress.phase = f"packing images: {done} of {of} shards"
            listener(progress, None)

        tell(0, len(self.shards))
        Packing(self.storage, self.name, items, classes, most=len(self.shards)).write(tell)
        refuse_changes(self.files, look(self.data), self.storage.root)
        about = About(self.name, self.shards, len(items), all(item.label is not None for item in items))
        write_record(self.storage, about, self.files)
        images = min(len(items), SHARD_SIZE * len(self.shards))
        listener(progress, f"packed {images} images into {self.storage.root}")


def find_shards(job: Job, listener: Listener, progress: Progress) -> tuple[list[str], Unpacked | None]:
    """The shards of a job, by path or URL; and the images that are to be packed into them first. It writes nothing.

    Raises:
        UsageError: images, labels, boxes or masks that do not fit together, or have changed since they were packed.
    """
    given = job.dataset
    if given.images is None:
        return expand(given.shards, Path.cwd()), None
    data = OwnData.at(given.images, given.labels, given.boxes, given.masks)
    storage = open_storage(given.shards_out or f"{job.output.path}/{SHARDS}")
    labelled = job.model.target == "label"
    progress.phase = "looking for images"
    listener(progress, None)
    packed = read_record(storage)
    name, files = data.name, {}
    if packed is not None:
        name, files = packed.about.name, check_source(packed, data, storage.root, labelled=labelled)
        shards = planned(name, packed.about.images, given.limit)
        if set(shards) <= set(packed.about.shards):
            return [f"{storage.root}/{shard}" for shard in shards], None
    files = files or look(data)
    gathered = gather(data, labelled=labelled)
    for note in gathered.notes:
        listener(progress, note)
    shards = planned(name, len(gathered.items), given.limit)
    unpacked = Unpacked(storage, name, data, gathered, files, shards, labelled)
    return [f"{storage.root}/{shard}" for shard in shards], unpacked
