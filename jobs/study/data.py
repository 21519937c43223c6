"""The published data of the study as arrays: for each network and group of metrics, images by methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.study import block_file
from jobs.study.design import CONTROLS, LAWS, NETWORKS
from jobs.study.labels import is_setting


@dataclass(frozen=True)
class Measure:
    """A column that methods are compared by.

    Attributes:
        column: its name.
        title: what people call it.
        better: 1 where higher is better, -1 where lower is.
        share: whether it is 0 or 1 for an image.
    """

    column: str
    title: str
    better: int = 1
    share: bool = False


GAP = Measure("gap", "insertion minus deletion")
CORE = (
    GAP,
    Measure("insertion", "insertion"),
    Measure("deletion", "deletion", -1),
    Measure("diffid", "DiffID"),
    Measure("roc_auc", "ROC-AUC"),
    Measure("average_precision", "average precision"),
    Measure("pointing", "pointing game", 1, True),
    Measure("energy", "energy in the object"),
    Measure("certainty", "certainty"),
)
INFORMATION = (Measure("road_gap", "ROAD"), Measure("aic", "AIC"), Measure("sic", "SIC"))
SANITY = (Measure("stability", "stability"), Measure("mprt", "MPRT", -1))
MEASURES = (*CORE, *INFORMATION, *SANITY)
MEASURES_BY_GROUP = {"core": CORE, "information": INFORMATION, "sanity": SANITY}


@dataclass(frozen=True)
class Panel:
    """Numbers of one network; N images, M methods.

    Attributes:
        network: its key.
        images: (N,) keys of the images, sorted.
        methods: labels, in order of the first file that has them.
        columns: name -> (N, M) float64, NaN where there is no number.
    """

    network: str
    images: tuple[str, ...]
    methods: tuple[str, ...]
    columns: dict[str, np.ndarray]

    def of(self, column: str, method: str) -> np.ndarray:
        """(N,) numbers of one method."""
        values: np.ndarray = self.columns[column][:, self.methods.index(method)]
        return values

    def some(self, methods: Sequence[str]) -> Panel:
        """The same of those of `methods` that it has."""
        kept = [method for method in methods if method in self.methods]
        places = [self.methods.index(method) for method in kept]
        return Panel(
            self.network, self.images, tuple(kept), {name: rows[:, places] for name, rows in self.columns.items()}
        )

    def counts(self) -> dict[str, int]:
        """Method -> images that it has any number of."""
        measured = np.any([np.isfinite(rows) for rows in self.columns.values()], axis=0)
        return dict(zip(self.methods, measured.sum(axis=0).tolist(), strict=True))

    def everywhere(self, images: Sequence[str]) -> list[str]:
        """The methods that have some number of each of `images`: beside them, a mean over few images is less sure."""
        measured = np.any([np.isfinite(self.aligned(images, name)) for name in self.columns], axis=0)
        return [method for method, each in zip(self.methods, measured.all(axis=0), strict=True) if each]

    def ranked(self) -> list[str]:
        """The images that methods are ranked over: those of one method, chosen so that the number of methods that have
        as many, times the square root of the number of images, is highest. So neither a few methods with many images
        nor a few images of many methods leave the others out."""
        measured = np.any([np.isfinite(rows) for rows in self.columns.values()], axis=0)
        sizes = measured.sum(axis=0)
        worth = [(sizes >= size).sum() * np.sqrt(size) for size in sizes]
        chosen = measured[:, int(np.argmax(worth))]
        return [image for image, held in zip(self.images, chosen, strict=True) if held]

    def aligned(self, images: Sequence[str], column: str) -> np.ndarray:
        """(len(images), M) of a column, NaN for images that it lacks."""
        places = {image: place for place, image in enumerate(self.images)}
        rows = np.full((len(images), len(self.methods)), np.nan)
        for row, image in enumerate(images):
            if image in places:
                rows[row] = self.columns[column][places[image]]
        return rows


class Study:
    """The blocks' files of a folder, `NETWORK/BLOCK.parquet`, in order of name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.glob("*/*.parquet"))
        self._panels: dict[tuple[str, str], Panel | None] = {}

    @cached_property
    def blocks(self) -> list[tuple[pa.Table, block_file.Record]]:
        return [block_file.read(path) for path in self.files]

    def of(self, metrics: str, network: str) -> Iterator[tuple[pa.Table, block_file.Record]]:
        """The blocks of one group of metrics and one network."""
        for rows, record in self.blocks:
            if (record["metrics"], record["network"]) == (metrics, network):
                yield rows, record

    def networks(self, metrics: str) -> list[str]:
        """The networks that have a block of a group of metrics, in the study's order."""
        present = {record["network"] for _, record in self.blocks if record["metrics"] == metrics}
        return [*(name for name in NETWORKS if name in present), *sorted(present - set(NETWORKS))]

    def panel(self, metrics: str, network: str) -> Panel | None:
        """The numbers of a group of metrics on one network, all blocks together; None without one."""
        if (metrics, network) not in self._panels:
            self._panels[metrics, network] = self._panel(metrics, network)
        return self._panels[metrics, network]

    def _panel(self, metrics: str, network: str) -> Panel | None:
        tables = [rows for rows, _ in self.of(metrics, network)]
        if not tables or metrics == LAWS:
            return None
        rows = pa.concat_tables(tables, promote_options="default")
        images = tuple(sorted(set(rows["key"].to_pylist())))
        methods = tuple(dict.fromkeys(rows["method"].to_pylist()))
        where = _places(rows, images, methods)
        if len(set(zip(*where, strict=True))) < rows.num_rows:
            raise ValueError(f"two blocks of {metrics} on {network} have the same image and method")
        columns = {}
        for field in rows.schema:
            if field.name not in block_file.KEYS:
                values = np.full((len(images), len(methods)), np.nan)
                values[where] = rows[field.name].cast(pa.float64()).to_numpy(zero_copy_only=False)
                columns[field.name] = values
        if {"insertion", "deletion"} <= columns.keys():
            columns[GAP.column] = columns["insertion"] - columns["deletion"]
        return Panel(network, images, methods, columns)

    def joined(self, network: str) -> Panel | None:
        """The numbers of all groups of measures on one network, of methods by their own names; None without any."""
        panels = [panel for group in MEASURES_BY_GROUP if (panel := self.panel(group, network)) is not None]
        if not panels:
            return None
        images = tuple(sorted({image for panel in panels for image in panel.images}))
        methods = tuple(dict.fromkeys(name for panel in panels for name in panel.methods if not is_setting(name)))
        columns: dict[str, np.ndarray] = {}
        for panel in panels:
            kept = panel.some(methods)
            places = [methods.index(name) for name in kept.methods]
            for name in kept.columns.keys() - columns.keys():
                columns[name] = np.full((len(images), len(methods)), np.nan)
                columns[name][:, places] = kept.aligned(images, name)
        return Panel(network, images, methods, columns)

    def whole(self, metrics: str, network: str, number: str) -> dict[str, dict[str, Any]]:
        """Method -> a number of the whole data set, of the blocks of a group that have it."""
        found: dict[str, dict[str, Any]] = {}
        for _, record in self.of(metrics, network):
            found |= record["whole"].get(number, {})
        return found

    def curves(self, network: str, column: str) -> dict[str, np.ndarray]:
        """Method -> the mean of a curve over the images of all blocks of core metrics."""
        sums: dict[str, list[tuple[float, np.ndarray]]] = {}
        for _, record in self.of("core", network):
            for label, values in record["curves"].get(column, {}).items():
                sums.setdefault(label, []).append((record["images"], np.array(values, np.float64)))
        return {
            label: np.average([curve for _, curve in parts], axis=0, weights=[images for images, _ in parts])
            for label, parts in sums.items()
            if len({curve.shape for _, curve in parts}) == 1
        }


def rivals(panel: Panel) -> tuple[str, ...]:
    """What suppression is compared with: methods under their own names, no control, none with suppression in it."""
    return tuple(name for name in panel.methods if not (name in CONTROLS or "ssig" in name or is_setting(name)))


def _places(rows: pa.Table, images: tuple[str, ...], methods: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each row of a table."""
    row = {image: place for place, image in enumerate(images)}
    column = {method: place for place, method in enumerate(methods)}
    return (
        np.array([row[image] for image in rows["key"].to_pylist()], dtype=np.int64),
        np.array([column[method] for method in rows["method"].to_pylist()], dtype=np.int64),
    )
