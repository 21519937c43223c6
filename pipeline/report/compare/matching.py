"""Which samples two runs have in common, and which of their models and methods belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.reference import ordered_methods
from pipeline.run.expected import image_sizes
from pipeline.run.reader import Run
from ssig.errors import UsageError

_PLACE = ["shard", "index", "key"]
_NO_SAMPLES = pa.table(
    {"shard": pa.array([], pa.string()), "index": pa.array([], pa.int32()), "key": pa.array([], pa.string())}
    | {name: pa.array([], pa.int64()) for name in ("number", "bytes")}
)


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
    rows = [_numbered(run) for run in (first, second)]
    matched = _joined(rows, _PLACE)
    _refuse_other_image(rows, matched, second.root)
    by_place = len(matched)
    matched = np.concatenate([matched, _by_key(rows, matched, second.root)])
    if not len(matched):
        allowed = f"a run on samples of {first.root}; the two have no sample with the same key"
        raise UsageError("RUN_B", second.root, allowed)
    matched = _in_order(matched)
    only = (len(rows[0]) - len(matched), len(rows[1]) - len(matched))
    by_key = len(matched) - by_place
    return Common(by_key, matched[:, 0], matched[:, 1], only, tuple(_notes(first, second, by_key)))


def _numbered(run: Run) -> pa.Table:
    """Of each expected sample: its place and key, its row in the manifest, and how many bytes its image has; null
    without an image."""
    pieces = []
    start = 0
    for piece in run.expected.pieces([*_PLACE, "members"]):
        numbers = pa.array(np.arange(start, start + len(piece)))
        start += len(piece)
        columns = [*(piece[name] for name in _PLACE), numbers, image_sizes(piece["members"])]
        pieces.append(pa.record_batch(columns, [*_PLACE, "number", "bytes"]))
    return pa.Table.from_batches(pieces) if pieces else _NO_SAMPLES


def _joined(rows: Sequence[pa.Table], names: Sequence[str], *, alone: bool = False) -> np.ndarray:
    """(N, 2) rows of the manifests of two runs whose samples have the same values in some columns, in order.

    Of several samples of a run with the same values the last is taken; with `alone`, none.
    """
    sides = []
    for each, side in zip(rows, ("first", "second"), strict=True):
        grouped = each.group_by(list(names)).aggregate([("number", "max"), ("number", "count")])
        if alone:
            grouped = grouped.filter(pc.equal(grouped["number_count"], 1))
        sides.append(grouped.select([*names, "number_max"]).rename_columns([*names, side]))
    joined = sides[0].join(sides[1], list(names), join_type="inner")
    return _in_order(np.stack([np.asarray(joined["first"]), np.asarray(joined["second"])], axis=1))


def _in_order(matched: np.ndarray) -> np.ndarray:
    ordered: np.ndarray = matched[np.argsort(matched[:, 0], kind="stable")]
    return ordered


def _by_key(rows: Sequence[pa.Table], matched: np.ndarray, root: str) -> np.ndarray:
    """The samples that are not matched yet and have a key that is alone in either run.

    Where nothing is matched yet, another image under such a key is refused; else it is another sample.
    """
    found = _joined(rows, ["key"], alone=True)
    taken = np.isin(found[:, 0], matched[:, 0]) | np.isin(found[:, 1], matched[:, 1])
    left: np.ndarray = found[~taken]
    if not len(matched):
        _refuse_other_image(rows, left, root)
    first, second = _sizes(rows, left)
    same: np.ndarray = left[first == second]
    return same


def _sizes(rows: Sequence[pa.Table], matched: np.ndarray) -> list[np.ndarray]:
    """In either run, how many bytes the image of each matched sample has; -1 without one."""
    return [np.asarray(each["bytes"].take(pa.array(matched[:, side])).fill_null(-1)) for side, each in enumerate(rows)]


def _refuse_other_image(rows: Sequence[pa.Table], matched: np.ndarray, root: str) -> None:
    first, second = _sizes(rows, matched)
    others = np.flatnonzero((first >= 0) & (second >= 0) & (first != second))
    if len(others):
        a, b = (each.slice(matched[others[0], side], 1).to_pylist()[0] for side, each in enumerate(rows))
        raise UsageError(
            "RUN_B",
            root,
            f"a run on the same images; that of {b['key']} has {b['bytes']:,} bytes in {b['shard']}, "
            f"and {a['bytes']:,} in {a['shard']} of the first run",
        )


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
