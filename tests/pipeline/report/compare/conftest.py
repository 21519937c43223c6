"""Two runs on the same 24 images: under the second, one method is better, and a method differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import Method, write_run

SSIG = Method("ssig", "ssig", 0.0, signed=False, random=True)


def drawn(noise: float) -> Any:
    """Maps with the same peak everywhere, and as much noise as is asked for."""

    def draw(sample: Any, method: Method, side: int) -> np.ndarray:
        number = int(sample.key[-4:])
        generator = np.random.default_rng([number, int(1000 * noise)])
        peak = np.add.outer(np.arange(side), np.arange(side)) / side
        return np.asarray(peak + noise * number * generator.normal(size=(side, side)))

    return draw


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "before").mkdir()
    (folder / "after").mkdir()
    before = write_run(
        folder / "before", methods=[SSIG, Method("ig/50", "ig", 0.1, signed=True, random=False)], draw=drawn(0)
    )
    after = write_run(
        folder / "after",
        methods=[
            SSIG,
            Method("ig/50", "ig", 0.3, signed=True, random=False),
            Method("<b>new</b>", "ig", 0.3, signed=True, random=False),
        ],
        draw=drawn(0.01),
    )
    return before.path, after.path
