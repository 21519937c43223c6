"""Free photographs that scikit-image and scikit-learn ship, as one shard with hand-drawn boxes, for the demo.

The files are packed as they are installed, so the shard's bytes depend on nothing but those packages. There is no
class number: the demo explains the class that the network predicts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import skimage
import sklearn

from pipeline.shards.pack import write_tar
from pipeline.storage.jsontext import to_json
from pipeline.storage.local import LocalStorage
from ssig.errors import UsageError

FILE = "photographs.tar"


@dataclass(frozen=True)
class Photograph:
    """A photograph in an installed package.

    Attributes:
        key: its sample key.
        file: where an installed package keeps it.
        object: what the box surrounds.
        boxes: (x0, y0, x1, y1) in pixels of the file.
        licence, source: on what terms, and whose it is.
    """

    key: str
    file: Traversable
    object: str
    boxes: tuple[tuple[int, int, int, int], ...]
    licence: str
    source: str


_SKIMAGE = files(skimage)
_SKLEARN = files(sklearn)
_CC0 = "CC0 1.0"
_CC_BY = "CC BY 2.0"

PHOTOGRAPHS = (
    Photograph(
        "astronaut", _SKIMAGE / "data/astronaut.png", "astronaut", ((18, 15, 364, 512),),
        "public domain", "NASA, Great Images in NASA (https://flic.kr/p/r9qvLn)",
    ),
    Photograph(
        "camera", _SKIMAGE / "data/camera.png", "camera on its tripod", ((229, 139, 406, 512),),
        _CC0, "Lav Varshney",
    ),
    Photograph("chelsea", _SKIMAGE / "data/chelsea.png", "cat", ((0, 0, 400, 300),), _CC0, "Stefan van der Walt"),
    Photograph(
        "china", _SKLEARN / "datasets/images/china.jpg", "palace", ((62, 29, 373, 427),),
        _CC_BY, "danielbuechele (https://www.flickr.com/photos/danielbuechele/6061409035/)",
    ),
    Photograph(
        "coffee", _SKIMAGE / "data/coffee.png", "cup of espresso", ((172, 18, 409, 308),),
        _CC0, "Rachel Michetti, courtesy of Pikolo Espresso Bar",
    ),
    Photograph(
        "flower", _SKLEARN / "datasets/images/flower.jpg", "dahlia", ((168, 85, 446, 360),),
        _CC_BY, "vultilion (https://www.flickr.com/photos/vultilion/6056698931/)",
    ),
    Photograph(
        "motorcycle", _SKIMAGE / "data/motorcycle_left.png", "motorcycle", ((92, 18, 685, 450),),
        "no licence stated; redistributed with scikit-image",
        "Middlebury 2014 stereo benchmark, left image (https://vision.middlebury.edu/stereo/data/scenes2014/)",
    ),
    Photograph(
        "rocket", _SKIMAGE / "data/rocket.jpg", "rocket", ((310, 126, 335, 407),),
        "public domain", "SpaceX (https://www.flickr.com/photos/spacexphotos/16511594820/)",
    ),
)  # fmt: skip


def write_photographs(folder: Path) -> Path:
    """Packs the photographs into ``photographs.tar`` in `folder`; a shard with the same bytes is left as it is.

    Raises:
        UsageError: `folder` cannot be written; it calls it `out`.
    """
    buffer = io.BytesIO()
    write_tar(buffer, _members())
    try:
        storage = LocalStorage(folder)
        if storage.entry(FILE) is None or storage.read(FILE) != buffer.getvalue():
            storage.put(FILE, buffer.getvalue())
            with suppress(OSError):  # not empty: another command is at work there
                storage.staging().rmdir()
    except OSError as error:
        allowed = f"a place that can be written: name another ({error.strerror})"
        raise UsageError("out", str(folder), allowed) from error
    return Path(storage.root) / FILE


def _members() -> Iterator[tuple[str, bytes]]:
    for photograph in PHOTOGRAPHS:
        about = {name: value for name, value in asdict(photograph).items() if name not in ("key", "file")}
        yield photograph.key + Path(photograph.file.name).suffix, photograph.file.read_bytes()
        yield f"{photograph.key}.json", to_json(about).encode()
