"""Which samples two runs have in common, and which of their models and methods belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.reference import ordered_methods
from pipeline.run.reader import Run
from pipeline.shards.images import IMAGE_EXTENSIONS
from ssig.errors import UsageError


@dataclass(frozen=True)
class Common:
    """The common samples of two runs.

    Attributes:
        by_key: how many were matched by their key alone; the others by shard, number in it and key.
        first, second: (N,) int64, their rows in the manifest of each run.
        only: how many samples only the first and only the second run has.
        notes: what to know of the match, a sentence each.
    """

    by_key: int
    first: np.ndarray
    second: np.ndarray
    only: tuple[int, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A method that both runs have, under a model of each."""

    first_model: str
    second_model: str
    method: str

    @property
    def model(self) -> str:
        """The name of the model, or of both."""
        same = self.first_model == self.second_model
        return self.first_model if same else f"{self.first_model} and {self.second_model}"


def common_samples(first: Run, second: Run) -> Common:
    """The samples that both runs expect.

    Raises:
        UsageError: there are none, it is one run, or the images of some are not the same, as far as manifests tell.
    """
    if first.root.rstrip("/") == second.root.rstrip("/"):
        raise UsageError("RUN_B", second.root, "another run than RUN_A")
    rows = [run.manifest.select(["shard", "index", "key", "members"]).to_pylist() for run in (first, second)]
    places = [{(row["shard"], row["index"], row["key"]): number for number, row in enumerate(each)} for each in rows]
    matched = [(number, places[1][place]) for place, number in places[0].items() if place in places[1]]
    for a, b in matched:
        _refuse_other_image(rows[0][a], rows[1][b], second.root)
    by_place = len(matched)
    matched += _by_key(rows, matched, second.root)
    if not matched:
        allowed = f"a run on samples of {first.root}; the two have no sample with the same key"
        raise UsageError("RUN_B", second.root, allowed)
    matched.sort()
    only = (len(rows[0]) - len(matched), len(rows[1]) - len(matched))
    by_key = len(matched) - by_place
    numbers = np.array(matched, dtype=np.int64)
    return Common(by_key, numbers[:, 0], numbers[:, 1], only, tuple(_notes(first, second, by_key)))


def _by_key(
    rows: Sequence[Sequence[Mapping[str, Any]]], matched: Sequence[tuple[int, int]], root: str
) -> list[tuple[int, int]]:
    """The samples that are not matched yet and have a key that is alone in either run.

    Where nothing is matched yet, another image under such a key is refused; else it is another sample.
    """
    taken = [{pair[side] for pair in matched} for side in (0, 1)]
    keys = []
    for each, done in zip(rows, taken, strict=True):
        counts = Counter(row["key"] for row in each)
        keys.append(
            {row["key"]: number for number, row in enumerate(each) if counts[row["key"]] == 1 and number not in done}
        )
    pairs_by_key = [(number, keys[1][key]) for key, number in keys[0].items() if key in keys[1]]
    if not matched:
        for a, b in pairs_by_key:
            _refuse_other_image(rows[0][a], rows[1][b], root)
    return [(a, b) for a, b in pairs_by_key if _image_size(rows[0][a]) == _image_size(rows[1][b])]


def _refuse_other_image(first: Mapping[str, Any], second: Mapping[str, Any], root: str) -> None:
    sizes = [_image_size(row) for row in (first, second)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise UsageError(
            "RUN_B",
            root,
            f"a run on the same images; that of {second['key']} has {sizes[1]:,} bytes in {second['shard']}, "
            f"and {sizes[0]:,} in {first['shard']} of the first run",
        )


def _image_size(row: Mapping[str, Any]) -> int | None:
    """How many bytes the image of a sample has; None where it has none."""
    sizes = {member["extension"]: member["size"] for member in row["members"] or ()}
    return next((sizes[extension] for extension in IMAGE_EXTENSIONS if extension in sizes), None)


def _notes(first: Run, second: Run, by_key: int) -> list[str]:
    notes = [f"{by_key:,} samples were matched by their key alone: shards or numbers differ."] if by_key else []
    hashes = [
        {shard["name"]: shard.get("sha256") for shard in run.document.get("dataset", {}).get("shards", [])}
        for run in (first, second)
    ]
    other = [name for name, digest in hashes[0].items() if digest and hashes[1].get(name) not in (None, digest)]
    if other and not by_key:
        names = ", ".join(other[:3])
        notes.append(f"Shards of equal names have other contents ({names}); their images have equal sizes.")
    return notes


def pairs(first: Run, second: Run) -> tuple[list[Pair], list[str]]:
    """The methods that both runs have, in the order of the first, and what only one of them has.

    Models of equal label belong together; where each run has one model, these do, whatever their labels: two
    checkpoints.
    """
    models = [list(dict.fromkeys(model for model, _ in run.config)) for run in (first, second)]
    together = [(model, model) for model in models[0] if model in models[1]]
    if not together and len(models[0]) == len(models[1]) == 1:
        together = [(models[0][0], models[1][0])]
    matching: list[Pair] = []
    lacking: list[str] = []
    for a, b in together:
        of_second = ordered_methods(second, b)
        matching += [Pair(a, b, method) for method in ordered_methods(first, a) if method in of_second]
    for run, name, position in ((first, "A", 0), (second, "B", 1)):
        paired = {((pair.first_model, pair.second_model)[position], pair.method) for pair in matching}
        lacking += [
            f"{model} / {method}: only in {name}" for model, method in run.config if (model, method) not in paired
        ]
    return matching, lacking
