"""How far the study goes: its images, networks and groups of metrics, and the files that it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jobs.study.data import Study
from jobs.study.design import LAWS, LOOK, NETWORKS, Design
from jobs.study.inference import share_of
from jobs.study.plan import done, looked, plan
from jobs.study.published import title
from jobs.study.rivalry import OVER, Comparison
from jobs.study.run import Places
from jobs.study.tables import Table
from jobs.study.words import listed, shown
from pipeline.report.numbers import NONE

# Group of metrics -> what is measured in it.
CONTENTS: dict[str, str] = {
    "core": "insertion, deletion, DiffID, localization and certainty of each method",
    "information": "ROAD, AIC and SIC",
    LAWS: "samples of each law at several strengths, without maps (questions 2 and 4)",
    "near": "magnitudes over each law at several strengths (question 3)",
    "permuted": "maps of a network whose weights have changed places (question 7)",
    "sanity": "stability, MPRT and the distance of each method's points from the image (questions 1 and 3)",
    "gig": "the table of Guided IG",
    "sig": "the table of Spectral IG",
    "spi": "the table of SPI",
    "samp": "the table of SAMP++",
}


def progress(study: Study, design: Design | None = None) -> str:
    """How much is measured, and how long the rest takes."""
    design, places = design or Design(), Places(study.folder, study.folder, ())
    left = sum(line.hours for line in plan(design, places))
    text = f"Measured so far: {blocks_done(study, design)}"
    return (
        f"{text}. Nothing is left."
        if left < 0.05
        else f"{text}. The rest takes {left:.0f} hours of two cores by plan."
    )


def blocks_done(study: Study, design: Design | None = None) -> str:
    """How many blocks are measured."""
    design, places = design or Design(), Places(study.folder, study.folder, ())
    looks = looked(design, places)
    more = f", and a first look of {LOOK} images at {looks} more" if looks else ""
    return f"{done(design, places)} of {len(design.blocks)} blocks of measurements{more}"


def groups(study: Study) -> list[str]:
    """What each group that has numbers holds."""
    present = dict.fromkeys(record["metrics"] for _, record in study.blocks)
    return [f"`{name}`: {CONTENTS[name]}." for name in present if name in CONTENTS]


def coverage(study: Study) -> Table:
    """How many images and methods each network has in each group of metrics."""
    groups = list(dict.fromkeys(record["metrics"] for _, record in study.blocks))
    rows = [["network", *groups]]
    networks = dict.fromkeys(name for group in groups for name in study.networks(group))
    for network in networks:
        cells = []
        for group in groups:
            panel = study.panel(group, network)
            of_laws = [record["images"] for _, record in study.of(LAWS, network)] if group == LAWS else []
            if panel is not None:
                sizes = Counter(panel.counts().values())
                cells.append(
                    "; ".join(
                        f"{images} images, {sizes[images]} method{'s' * (sizes[images] > 1)}"
                        for images in sorted(sizes)[::-1]
                    )
                )
            else:
                cells.append(f"{of_laws[0]} images" if of_laws else NONE)
        rows.append([title(network), *cells])
    return rows


def network_table(study: Study) -> Table:
    """A network a row: its weights, and in how many of its images it says the right class."""
    table: Table = [["network", "weights", "share classified right"]]
    for name in dict.fromkeys(record["network"] for _, record in study.blocks):
        if name in NETWORKS:
            table.append([title(name), NETWORKS[name].weights, _right(study, name)])
    return table


def _right(study: Study, network: str) -> str:
    """The share of the images of all its blocks that have both classes."""
    right: dict[str, bool] = {}
    for rows, record in study.blocks:
        if record["network"] == network and {"predicted", "label"} <= set(rows.column_names):
            same = rows["predicted"].to_numpy() == rows["label"].to_numpy()
            right |= dict(zip(rows["key"].to_pylist(), same.tolist(), strict=True))
    share = share_of(np.array(list(right.values()), np.float64))
    return f"{shown(share)}, N = {share.count}" if right else NONE


def compared(rows: Sequence[Comparison]) -> str:
    """How many comparisons question 1 corrects for, network by network."""
    sizes = Counter(row.network for row in rows if np.isfinite(row.p))
    parts = [f"{size:,} {'over networks' if name == OVER else f'on {title(name)}'}" for name, size in sizes.items()]
    return f"In question 1 there are {listed(parts)}." if parts else ""


def provenance(study: Study) -> Table:
    """How each file was measured."""
    table = [["file", "N", "commits", "machine", "hours, summed over work done at once"]]
    for path, (_, record) in zip(study.files, study.blocks, strict=True):
        each = record["measured"]
        machines = dict.fromkeys(f"{one['machine']['cpu']}, {one['machine']['cores']} cores" for one in each)
        commits = dict.fromkeys(str(one["commit"]) for one in each)
        spent = sum(one["seconds"] for one in each) / 3600
        name = f"{path.parent.name}/{path.name}"
        table.append([name, str(record["images"]), ", ".join(commits), "; ".join(machines), f"{spent:.2f}"])
    return table
