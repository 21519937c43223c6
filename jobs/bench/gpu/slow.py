"""Methods that compute much on the host, or one step after another, while the device waits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from jobs.bench.gpu.compare import explained
from jobs.bench.gpu.networks import classes, network, pictures, replica
from jobs.bench.gpu.session import Case, Session
from jobs.bench.gpu.timing import duration

AUTO = {"samples": "auto", "most": 32}
# name -> method, options, images.
PLAN: dict[str, tuple[str, dict[str, Any], int]] = {
    "ig, 256 steps, one image": ("ig", {"steps": 256}, 1),
    "ssig, one image": ("ssig", {}, 1),
    "ssig, samples auto": ("ssig", {**AUTO, "tolerance": 0.05}, 16),
    "ssig, samples auto by ranks": ("ssig", {**AUTO, "tolerance": 1e-6, "criterion": "spearman"}, 16),
    **{
        name: (name, {}, 16)
        for name in (
            *("xrai", "guided-ig", "blur-ig", "ssig-frequency", "vargrad", "spectral-ig"),
            *("samp", "samp++", "spi", "spi-p", "pwig", "mfaba", "rise", "occlusion"),
            *("grad-cam++", "layer-cam", "hires-cam", "score-cam"),
        )
    },
}


def cases(session: Session) -> Iterator[Case]:
    """A row for each method, on ResNet-50 in fp16."""
    for name, (method, options, images) in PLAN.items():
        yield name, partial(_row, session, method, options, images)


def _row(session: Session, method: str, options: dict[str, Any], count: int) -> dict[str, float]:
    ready = replica(session, "resnet50", "fp16")
    count = session.pick(count, min(count, 2))
    if session.tiny and "steps" in options:
        options = {**options, "steps": 16}
    images, targets = pictures(count, network(session, "resnet50").input_size), classes(count)
    explained(ready, images[:1], targets[:1], method, **options)
    spent: list[int] = []

    def run() -> None:
        spent.append(int(explained(ready, images, targets, method, **options).gradient_evaluations.sum()))

    seconds = duration(session, run)
    return {"ms per image": 1e3 * seconds / count, "gradients/s": spent[0] / seconds}
