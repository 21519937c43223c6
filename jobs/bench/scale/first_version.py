"""What version 0.1.0 took for the same steps: its code under this measurement at two sizes, and the line.

It was measured once, at commit 6a1f8c4, with 5 labels and 20 ms a request on two cores of an AMD EPYC.
"""

from __future__ import annotations

from jobs.bench.scale.model import Cost, at

LABELS, DELAY = 5, 0.02
LISTED = (320_000, 650_000)  # images of the shards that were listed
SIZES = (3_203, 12_812)  # images of the runs
MANIFEST = "manifest"
MEASURED: dict[str, tuple[Cost, Cost]] = {
    MANIFEST: (Cost(11_520, 45.06e9, 75.83, 10.77), Cost(23_400, 91.52e9, 156.40, 17.54)),
    "resume": (Cost(271, 246e3, 0.600, 0.214), Cost(1_046, 879e3, 1.795, 0.214)),
    "commits": (Cost(255, 0, 0.0, 0.0), Cost(1_020, 0, 0.0, 0.0)),
    "report": (Cost(3_397, 135.0e6, 64.01, 9.84), Cost(13_343, 538.5e6, 250.75, 28.25)),
    "audit": (Cost(1_299, 20.7e6, 21.46, 3.90), Cost(5_128, 82.6e6, 85.22, 15.52)),
    "duckdb": (Cost(2_024, 26.8e6, 4.606, 0.115), Cost(7_997, 106.1e6, 17.523, 0.167)),
}
# What the line leaves out.
NOTES = {
    MANIFEST: f"measured with {LISTED[0] // 1000} and {LISTED[1] // 1000} shards; every byte of them is read and "
    "hashed, and the time on a network comes on top",
    "report": "its bootstrap is quadratic in the images, so this is the least that it takes",
}


def before(images: int, labels: int, delay: float) -> dict[str, Cost]:
    """Step -> what it took.

    Args:
        images: of the whole run.
        labels: methods of the run.
        delay: seconds of each request.
    """
    found = {}
    for step, (smaller, larger) in MEASURED.items():
        line = at(images, LISTED if step == MANIFEST else SIZES, smaller, larger)
        times = 1.0 if step == MANIFEST else labels / LABELS
        found[step] = Cost(
            times * line.requests,
            times * line.bytes_read,
            max(0.0, times * line.waiting * delay / DELAY),
            max(0.0, times * line.computing),
        )
    return found
