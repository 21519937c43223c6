"""The data that `ssig bench scale` measures: a synthetic run, and shards of the size that ImageNet's have."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from jobs.bench.scale.delayed import ASIDE, RUN, SHARDS, UNIT_SIZE
from pipeline.driver.synthetic import IMAGES_PER_SHARD, SyntheticRun, write_synthetic_run
from ssig.registry import METHODS, METRICS

IMAGE_BYTES = 139_000  # of a photograph, so that a shard has 140 MB
# Up to so many images, so many times as many: both sizes of a measurement keep all requests busy.
_MORE_SHARDS = ((1_000, 4), (4_000, 80), (20_000, 50), (200_000, 4))
COLUMNS = 20  # scalar columns of metrics, at least


def write_data(folder: Path, images: int, labels: int) -> None:
    """Writes the shards and a finished run on as many images, of which the last unit's commits are put aside.

    Equal arguments give equal numbers in the tables.
    """
    write_large_shards(folder / SHARDS, large_shards(images))
    plan = SyntheticRun(images, methods=methods(labels), metrics=metrics(), unit_size=UNIT_SIZE)
    directory = write_synthetic_run(folder, plan)
    last = max(unit.id for unit in directory.manifest.units())
    names = [entry.name for entry in directory.storage.list("commits")]
    _move((name for name in names if name.endswith(f"/{last}.json")), folder / RUN, folder / ASIDE)


def large_shards(images: int) -> int:
    """How many shards are listed: more than a small run needs, since many are listed at a time."""
    more = next((factor for most, factor in _MORE_SHARDS if images <= most), 1)
    return more * -(-images // IMAGES_PER_SHARD)


def finish_run(folder: Path) -> None:
    """Puts the commits of the last unit back."""
    aside = folder / ASIDE
    names = [str(path.relative_to(aside)) for path in aside.rglob("*.json")]
    _move(names, aside, folder / RUN)


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target / name)


def methods(labels: int) -> list[str]:
    """As many methods of ssig's own."""
    return list(METHODS.names())[:labels]


def metrics() -> list[str]:
    """The first metrics that have `COLUMNS` scalar columns together and no number of the whole data set."""
    chosen: list[str] = []
    columns = 0
    for name in METRICS.names():
        if columns >= COLUMNS:
            break
        if METRICS[name].dataset is None:
            chosen.append(name)
            columns += len(METRICS[name].columns)
    return chosen


def write_large_shards(folder: Path, count: int) -> None:
    """Shards of `IMAGES_PER_SHARD` images: one file under many names, whose images are holes that take no room."""
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "000000.tar"
    with first.open("wb") as file:
        for header, payload, size in _members():
            file.write(header + payload)
            file.seek(-(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE - len(payload), 1)
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    for number in range(1, count):
        (folder / f"{number:06d}.tar").hardlink_to(first)


def _members() -> Iterator[tuple[bytes, bytes, int]]:
    """The header of each member, its payload unless that is a hole, and the size of the payload."""
    for number in range(IMAGES_PER_SHARD):
        label = str(number).encode()
        for extension, payload, size in (("jpg", b"", IMAGE_BYTES), ("cls", label, len(label))):
            info = tarfile.TarInfo(f"{number:08d}.{extension}")
            info.size = size
            yield info.tobuf(tarfile.USTAR_FORMAT), payload, size
