"""Files of a study with made-up numbers, whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.study import block_file, laws
from jobs.study.design import METHODS, PERMUTED
from jobs.study.entries import known

FIRST = ("ssig", "ssig-signed", "ig", "smoothgrad", "random", "sobel")
# What a method adds to insertion, in every image, on top of what all methods share.
SKILL = {"ssig": 0.3, "ssig-signed": 0.5, "ig": 0.4, "smoothgrad": 0.41, "random": 0.0, "sobel": 0.1}
REFUSED = (
    "error: methods.ssig-attention: found 'ssig-attention'; allowed: a method that the network can run: "
    "a <class 'Part'> has no attention. Give it one."
)


def record(network: str, block: str, metrics: str, methods: Sequence[str], images: int) -> dict[str, Any]:
    """A block's record."""
    return {
        "network": network,
        "block": block,
        "metrics": metrics,
        "definition": "0",
        "methods": {
            name: {"entry": name, "name": name, "options": {}, "evaluations": 32, "fingerprint": "0"}
            for name in methods
        },
        "refused": {"ssig-attention": {"entry": "ssig-attention", "reason": REFUSED}},
        "curves": {},
        "whole": {},
        "model": {"name": network},
        "metric_options": {},
        "images": images,
        "measured": [
            {"commit": "abc", "seconds": 1800.0, "machine": {"cpu": "CPU", "cores": 2}, "command": "c", "methods": []}
        ],
    }


def core(
    folder: Path, network: str, skill: Mapping[str, float] = SKILL, images: int = 60, name: str = "core-first-000"
) -> None:
    """A block of core metrics: insertion is skill and noise, deletion does not depend on the method."""
    draws = np.random.default_rng([images, sum(map(ord, network + name))])
    keys, methods = [f"image{number:04d}" for number in range(images)], list(skill)
    shared, noise = draws.normal(0.3, 0.1, images), draws.normal(0, 0.03, (images, len(methods)))
    insertion = shared[:, None] + np.array([skill[method] for method in methods]) + noise
    rows = {
        "key": np.repeat(keys, len(methods)).tolist(),
        "method": methods * images,
        "probability": np.repeat(draws.uniform(size=images), len(methods)),
        "score": np.repeat(draws.normal(size=images), len(methods)),
        "insertion": insertion.ravel(),
        "deletion": np.repeat(shared, len(methods)) / 2,
        "diffid": (insertion + draws.normal(0, 0.02, insertion.shape)).ravel(),
        "roc_auc": draws.uniform(0.4, 0.9, insertion.size),
        "pointing": (draws.uniform(size=insertion.size) < 0.8).astype(float),
        "certainty": (insertion / 2 + draws.normal(0, 0.01, insertion.shape)).ravel(),
        "alignment": (1 - insertion + draws.normal(0, 0.01, insertion.shape)).ravel(),
    }
    arrays = {
        key: pa.array(values, None if isinstance(values, list) else pa.float32()) for key, values in rows.items()
    }
    metrics = name.partition("-")[0]
    kept = record(network, name, metrics, methods, images)
    if metrics == "core":
        steps = np.linspace(0, 1, 9)
        kept["curves"] = {
            "insertion_curve": {method: (skill[method] * steps).tolist() for method in methods},
            "deletion_curve": {method: (skill[method] * (1 - steps)).tolist() for method in methods},
        }
    block_file.write(folder / network / f"{name}.parquet", pa.table(arrays), kept)


def information(folder: Path, network: str, images: int = 40) -> None:
    """A block of SIC, with the number of its median curve."""
    draws = np.random.default_rng([3, images])
    methods = list(SKILL)
    rows: dict[str, Any] = {
        "key": [f"image{number:04d}" for _ in methods for number in range(images)],
        "method": [name for name in methods for _ in range(images)],
        "sic": np.concatenate([SKILL[name] + draws.normal(0, 0.05, images) for name in methods]).astype(np.float32),
    }
    kept = record(network, "information-first-000", "information", methods, images)
    median = {"low": 0.1, "high": 0.9, "count": images}
    kept["whole"] = {"sic_median": {name: {"value": SKILL[name], **median} for name in methods}}
    block_file.write(folder / network / "information-first-000.parquet", pa.table(rows), kept)


def sanity(folder: Path, network: str, distances: Mapping[str, float], images: int = 40) -> None:
    """A block of sanity metrics: the distance of a method's samples from their images, NaN where it has none."""
    draws = np.random.default_rng([5, images])
    methods = list(distances)
    noise = draws.normal(0, 0.05, (images, len(methods)))
    rows: dict[str, Any] = {
        "key": [f"image{number:04d}" for number in range(images) for _ in methods],
        "method": methods * images,
        "alignment": (np.array(list(distances.values())) + noise).ravel().astype(np.float32),
        "mprt": np.full(images * len(methods), 0.5, np.float32),
    }
    kept = record(network, "sanity-first-000", "sanity", methods, images)
    block_file.write(folder / network / "sanity-first-000.parquet", pa.table(rows), kept)


def law_block(folder: Path, network: str, images: int = 40) -> None:
    """A block of laws: noise loses gradient with its change, suppression does not and is nearer to natural images."""
    draws = np.random.default_rng([7, images])
    rows: dict[str, list[Any]] = {name: [] for name in ("key", "method", "law", "strength", *laws.COLUMNS)}
    for number in range(images):
        for law, strength in laws.settings():
            noise = law == "noise"
            change = strength * (0.3 if noise else 0.15) * (1 + number / images)
            values = {
                "change": change,
                "sample_change": change,
                "probability": 0.9 - change * (2 if noise else 1) + draws.normal(0, 0.005),
                "gradient": 0.5 * np.exp(-(3 if noise else 0) * change + draws.normal(0, 0.01)),
                "dead": 0.4,
                "kid": change * (2 if noise else 1) + draws.normal(0, 0.005),
                "distance": change * (2 if noise else 1) + draws.normal(0, 0.005),
                "spectrum": change + draws.normal(0, 0.005),
            }
            texts = {"key": f"image{number:04d}", "method": f"{law} {strength:g}", "law": law, "strength": strength}
            for name, value in {**texts, **values}.items():
                rows[name].append(value)
    floats = ("strength", *laws.COLUMNS)
    arrays = {name: pa.array(values, pa.float32() if name in floats else None) for name, values in rows.items()}
    block_file.write(
        folder / network / "laws.parquet", pa.table(arrays), record(network, "laws", "laws", ["laws"], images)
    )


def whole_study(folder: Path, images: int = 40) -> None:
    """All kinds of blocks on four networks."""
    for network in ("efficientnet-lite0", "mobilenetv2", "vit-tiny", "googlenet"):
        core(folder, network, images=images)
    for network in ("efficientnet-lite0", "mobilenetv2"):
        law_block(folder, network, images)
        readouts = {label: 0.2 + 0.01 * place for place, label in enumerate(known(METHODS["readouts"]))}
        core(folder, network, readouts, images, "core-readouts-000")
        quality = {label: 0.1 * np.log2(int(label.rpartition("-")[2])) for label in known(METHODS["costs"])}
        core(folder, network, quality, images, "core-costs-000")
        core(folder, network, dict.fromkeys(METHODS[PERMUTED], 0.0), images, PERMUTED)
        information(folder, network, images)
        strengths = {label: 0.02 * place for place, label in enumerate(known(METHODS["strengths"]))}
        core(folder, network, strengths, images, "near-strengths-000")
    core(folder, "mobilenetv2", {"ig": 0.3, "sobel": 0.2, "ssig": 0.4}, images, "gig")
