"""`unit_size: auto`: units that take about a minute, within the memory of a worker.

    size = 60 s / seconds of an image, rounded to a power of two

A short unit costs requests and files, a long one is lost with its worker and is not seen before it ends. A job of few
images is not measured, since that would take a good part of its time.
"""

from __future__ import annotations

import math

from pipeline.job.configuration import UNIT_SIZE

UNIT_SECONDS = 60.0
MOST = 1024
# Memory of a unit: its images and maps. A worker has several units in hand.
UNIT_BYTES = 1 << 29
# Units for each of several workers, at least: with fewer, workers that end early wait for the last.
LEAST_UNITS = 4
FEW = 1000  # images up to which nothing is measured: those of a shard


def is_measured(samples: int) -> bool:
    """Whether a job of so many samples is worth a measurement."""
    return samples > FEW


def chosen_size(samples: int, workers: float, seconds: float | None, image_bytes: float) -> int:
    """Samples of a unit: by what was measured, where something was and the job is worth it.

    Args:
        samples, workers, image_bytes: as for `unit_size`.
        seconds: as for `unit_size`; None where nothing was measured.
    """
    if seconds is None or not is_measured(samples):
        return min(unmeasured_size(samples, workers), _power_below(UNIT_BYTES / max(1.0, image_bytes)))
    return unit_size(seconds, image_bytes, samples, workers)


def unit_size(seconds: float, image_bytes: float, samples: int, workers: float) -> int:
    """Samples of a unit: a power of two from 1 to 1,024.

    Args:
        seconds: of one worker for one image under all labels.
        image_bytes: memory of one image and its maps.
        samples: of the job.
        workers: that share them.
    """
    of_time = UNIT_SECONDS / max(seconds, UNIT_SECONDS / MOST)
    size = 2 ** round(math.log2(max(1.0, of_time)))
    bounds = (MOST, UNIT_BYTES / max(1.0, image_bytes))
    return min(int(size), _spread(samples, workers), *(_power_below(bound) for bound in bounds))


def unmeasured_size(samples: int, workers: float) -> int:
    """Samples of a unit of a job that nothing is known of: a power of two from 1 to 64.

    Args:
        samples: of the job.
        workers: that share them.
    """
    return min(UNIT_SIZE, _spread(samples, workers))


def image_bytes(input_size: tuple[int, int], labels: int, row_tensor_bytes: int) -> float:
    """Memory of one image of a unit: the image, its maps and their rows.

    Args:
        input_size: (H, W).
        labels: whose maps may be held together, where their methods walk the same path.
        row_tensor_bytes: of a row's maps in its table.
    """
    pixels = input_size[0] * input_size[1]
    image, floats = 3 * pixels * 4, pixels * 4
    # Twice the image: decoded, and on the device. A map is held with its standard error and its bias.
    return 2 * image + labels * 3 * floats + 2 * row_tensor_bytes


def _spread(samples: int, workers: float) -> int:
    """The most samples of a unit, so that each of several workers gets `LEAST_UNITS`."""
    return _power_below(samples / (LEAST_UNITS * workers) if workers > 1 else MOST)


def _power_below(number: float) -> int:
    return int(2 ** math.floor(math.log2(max(1.0, number))))
