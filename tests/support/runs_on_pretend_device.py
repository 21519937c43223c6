"""The Python surface and whole units on the pretend device and on the CPU; prints JSON: what was tried -> its fault.

    python tests/support/runs_on_pretend_device.py FOLDER [all]

With `all` under many methods. See `on_pretend_device.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from on_pretend_device import IMAGES, KEYS, fault
from pretend_device import NAME, Pretended, register
from small_runs import do_units
from tests_shards import members, write_tar
from torch import Tensor

import ssig
from pipeline.checks.audit import audit
from pipeline.job.configuration import load_job
from ssig.testing import example_images, small_network

FEW_METHODS = (
    {"name": "ssig", "samples": 4},
    {"name": "ig", "steps": 4},
    {"name": "expected-gradients", "samples": 4, "pool": 6},
)
MANY_METHODS = (
    *FEW_METHODS,
    *({"name": name, "samples": 4} for name in ("ssig-frequency", "ssig-shapley", "smoothgrad", "vargrad")),
    *({"name": name, "steps": 4} for name in ("guided-ig", "blur-ig", "idgi-ig", "left-ig")),
    {"name": "ssig", "label": "auto", "samples": "auto", "most": 12},
    *("xrai", "gradient", "grad-cam", "random", "sobel"),
)
METRICS = (
    *({"name": name, "steps": 4} for name in ("insertion", "deletion")),
    *("diffid", "road", "sic", "roc_auc", "completeness", "gini", "certainty"),
    {"name": "max_sensitivity", "samples": 2},
    {"name": "mprt", "blocks": 2},
    "alignment",
)
# What rounding changes in float32, of a number and at least: scores are near 1.
RELATIVE, ABSOLUTE = 1e-4, 1e-5


def surfaces() -> Iterator[tuple[str, str]]:
    """(call of the Python surface, fault)."""
    images = example_images()[:IMAGES]
    targets = [0, 1, 2]
    places: dict[str, tuple[Any, Tensor]] = {
        place: (small_network().to(place), images.to(place)) for place in ("cpu", NAME)
    }

    def attributed(place: str, **given: Any) -> dict[str, Any]:
        moved, there = places[place]
        result = ssig.attribute(lambda points: moved(points), there, targets, keys=KEYS, samples=4, **given)
        assert isinstance(result.map, Pretended) is (place == NAME)
        return {"map": result.map.cpu().numpy()}

    def captum(place: str, style: Any, **given: Any) -> dict[str, Any]:
        moved, there = places[place]
        result = style(lambda points: moved(points)).attribute(there, target=torch.tensor(targets), **given)
        assert isinstance(result, Pretended) is (place == NAME)
        return {"values": result.cpu().numpy()}

    def measured(place: str) -> dict[str, Any]:
        moved, there = places[place]
        maps = ssig.attribute(moved, there, targets, keys=KEYS, samples=4)
        found = ssig.measure(lambda points: moved(points), there, maps, ["insertion:steps=4", "road", "gini"])
        return {name: np.asarray(values) for name, values in found.items()}

    def named() -> dict[str, Any]:
        result = ssig.attribute(
            lambda points: places[NAME][0](points), images, targets, keys=KEYS, samples=4, device=NAME
        )
        return {"map": result.map.cpu().numpy()}

    yield "attribute, a callable", fault(lambda: attributed("cpu"), lambda: attributed(NAME))
    for style, given in ((ssig.SuppressionIG, {"n_samples": 4}), (ssig.IntegratedGradients, {"n_steps": 4})):
        yield (
            style.__name__,
            fault(lambda: captum("cpu", style, **given), lambda: captum(NAME, style, **given)),  # noqa: B023
        )
    yield "measure, a callable", fault(lambda: measured("cpu"), lambda: measured(NAME))
    yield "a device by name", fault(lambda: attributed("cpu"), named)
    for place in ("cpu", NAME):
        try:
            ssig.attribute(places[place][0], places[place][1], 99)
            yield f"a class that is not there, {place}", "nothing is raised"
        except Exception as error:
            told = isinstance(error, ssig.SsigError) and "99" in str(error) and "5" in str(error)
            yield f"a class that is not there, {place}", "" if told else str(error)


def units(folder: Path, methods: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(method, fault) of whole units."""
    shard = write_tar(folder / "a.tar", members(0, 4))
    runs = {}
    for place in ("cpu", NAME):
        fields = {
            "dataset.shards": [str(shard)],
            "model.name": "networks:tiny",
            "methods": list(methods),
            "metrics": list(METRICS),
            "output.path": str(folder / place),
            "output.maps": "float32",
            "unit_size": 4,
        }
        runs[place] = do_units(load_job(None, fields), device=place)
    problems = audit(str(runs[NAME])).problems
    yield "audit", "; ".join(map(str, problems))
    for kind in ("attributions", "metrics"):
        for path in sorted(runs["cpu"].glob(f"{kind}/**/*.parquet")):
            name = str(path.relative_to(runs["cpu"]))
            expected, found = (pq.read_table(runs[place] / name) for place in ("cpu", NAME))
            yield name, "; ".join(_differences(found, expected))


def _differences(found: Any, expected: Any) -> Iterator[str]:
    """Columns that differ by more than rounding, but for those that hold seconds."""
    if found.schema.names != expected.schema.names:
        yield "other columns"
        return
    for name in expected.schema.names:
        ours, theirs = found[name].to_pylist(), expected[name].to_pylist()
        if name.startswith("seconds"):
            continue
        if not all(map(_close, ours, theirs)):
            yield f"{name}: {str(ours)[:60]} for {str(theirs)[:60]}"


def _close(one: Any, other: Any) -> bool:
    if isinstance(other, float) or (isinstance(other, list) and len(np.shape(other)) > 0 and _are_floats(other)):
        scale = float(np.abs(np.asarray(other)).max(initial=0))
        return one is not None and np.allclose(one, other, RELATIVE, max(ABSOLUTE, RELATIVE * scale))
    return bool(one == other)


def _are_floats(values: list[Any]) -> bool:
    return np.asarray(values).dtype.kind == "f"


def main(folder: str, whole: str = "") -> None:
    register()
    torch.set_num_threads(1)
    print(json.dumps({**dict(surfaces()), **dict(units(Path(folder), MANY_METHODS if whole else FEW_METHODS))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
