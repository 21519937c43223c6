"""Numbers of methods over images, as a report takes them, without a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.report.columns import Column, Source
from pipeline.report.image_numbers import ImageNumbers
from pipeline.report.measurements import EFFORT, Measurements

UP, DOWN, NEITHER = (Column(name, name, Source(name), name, headline=True) for name in ("higher", "lower", "none"))


def stored_numbers(values: np.ndarray) -> ImageNumbers:
    """(N, M, C) numbers, as the report stores them."""
    stored = ImageNumbers(*values.shape)
    for method, column in np.ndindex(values.shape[1:]):
        stored.write(np.arange(len(values)), method, column, values[:, method, column])
    return stored


def measured(
    values: np.ndarray, columns: Sequence[Column], methods: tuple[str, ...], reference: str = ""
) -> Measurements:
    images = len(values)
    return Measurements(
        model="net",
        methods=methods,
        columns=tuple(columns),
        values=stored_numbers(values),
        effort=ImageNumbers(images, len(methods), len(EFFORT)),
        label=np.full(images, -1),
        predicted=np.full(images, -1),
        probability=np.full(images, np.nan),
        statuses={method: Counter(ok=images) for method in methods},
        reference=reference,
    )


def shifted(shifts: Sequence[float], columns: int = 1, noise: float = 0.05, images: int = 100) -> np.ndarray:
    """(images, M, C): a shared difficulty, plus each method's shift and noise of its own."""
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(images, 1, columns))
    own = noise * generator.normal(size=(images, len(shifts), columns))
    return shared + own + np.array(shifts)[None, :, None]


def many(count: int, direction: str = "higher") -> tuple[Column, ...]:
    return tuple(Column(f"m{n}", f"m{n}", Source(f"m{n}"), direction, headline=True) for n in range(count))
