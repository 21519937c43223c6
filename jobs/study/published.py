"""Published tables beside the study's numbers, and what differs between the protocols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from jobs.study.data import Panel, Study
from jobs.study.design import NETWORKS
from jobs.study.inference import Estimate, mean_of

_COMPRESSED = "our weights are product-quantised"
# Paper -> what differs between its protocol and ours.
DIFFERS = {
    "Guided IG": "MobileNetV2 instead of MobileNet; channels are summed; Guided IG has fraction .25, max_dist .02 and "
    "no anchors, as in the column (0) of the paper",
    "Spectral IG": f"{_COMPRESSED}; the paper has 500 images of the same set",
    "SPI": f"{_COMPRESSED}; the paper has 50,000 images; it deletes to zero, where a pixel of 0 here is the "
    "normalisation's mean; the blur is ssig's (sigma 10, kernel 31), and the paper "
    "prints no number of steps and paths",
    "SAMP++": f"{_COMPRESSED}; the paper's protocol is known from a secondary text; the curve is divided by the whole "
    "image's logit, which is near 0 or negative for some images, which makes wide intervals",
}
_SMOOTHED = "mean over 25 noisy images, with 25 steps each"
_SAMP = "SAMP as its authors have it; the paper has a variant"


@dataclass(frozen=True)
class Published:
    """A number of a paper and where the study measures the same.

    Attributes:
        paper, shown: of the paper (a key of `DIFFERS`), and the method as it names it.
        value: as printed; None for a method that the paper does not have.
        network, block, label, column: of the study.
        differs: what differs for this method alone.
    """

    paper: str
    shown: str
    measure: str
    value: float | None
    network: str
    block: str
    label: str
    column: str
    differs: str = ""


@dataclass(frozen=True)
class Reproduction:
    """A published number and ours; None where it is not measured yet."""

    published: Published
    ours: Estimate | None


def _table() -> tuple[Published, ...]:
    rows = []
    for shown, label, value in (
        ("edges", "sobel", 0.611),
        ("gradients", "gradient", 0.614),
        ("IG", "ig", 0.629),
        ("Blur IG", "blur-ig", 0.652),
        ("Guided IG", "guided-ig", 0.705),
        ("Grad-CAM", "grad-cam", 0.776),
        ("XRAI + IG", "xrai", 0.731),
        ("SmoothGrad + IG", "smoothgrad-ig", 0.742),
        ("SmoothGrad + Guided IG", "smoothgrad-guided-ig", 0.745),
        ("XRAI + Guided IG", "xrai-guided-ig", 0.838),
    ):
        differs = _SMOOTHED if label.startswith("smoothgrad") else ""
        rows.append(Published("Guided IG", shown, "ROC-AUC", value, "mobilenetv2", "gig", label, "roc_auc", differs))
    for shown, label, values in (
        ("IG", "ig", (0.159, 0.256, 0.097)),
        ("Blur IG", "blur-ig", (0.312, 0.350, 0.038)),
        ("Guided IG", "guided-ig", (0.251, 0.314, 0.064)),
        ("SAMP", "samp", (0.288, 0.328, 0.040)),
        ("Spectral IG", "spectral-ig", (0.342, 0.380, 0.038)),
    ):
        differs = _SAMP if label == "samp" else ""
        for kind, value in zip(("", "_insertion", "_deletion"), values, strict=True):
            measure, column = kind.removeprefix("_") or "DiffID", f"diffid_channels{kind}_abs"
            rows.append(Published("Spectral IG", shown, measure, value, "resnet18-256", "sig", label, column, differs))
    for shown, label, insertion, deletion in (
        ("IG", "ig", 0.158, 0.038),
        ("Guided IG", "guided-ig", 0.185, 0.020),
        ("SPI", "spi", 0.515, 0.018),
    ):
        for measure, value in (("insertion", insertion), ("deletion", deletion)):
            rows.append(Published("SPI", shown, measure, value, "resnet18", "spi", label, measure))
    for shown, label, measure, value in (
        ("SAMP++", "samp++", "deletion", 0.145),
        ("SAMP++", "samp++", "insertion", 1.116),
        ("SAMP", "samp", "insertion", 0.984),
        ("Guided IG", "guided-ig", "deletion", 0.167),
    ):
        rows.append(Published("SAMP++", shown, measure, value, "resnet50", "samp", label, measure))
    return tuple(rows)


TABLE = _table()


def reproductions(study: Study) -> list[Reproduction]:
    """Every published number with ours beside it, where it is measured, and our numbers of further methods."""
    panels = {(row.block, row.network): study.panel(row.block, row.network) for row in TABLE}
    found = []
    for row in (*TABLE, *_further(panels)):
        panel = panels[row.block, row.network]
        measured = panel is not None and row.label in panel.methods and row.column in panel.columns
        ours = mean_of(panel.of(row.column, row.label)) if measured and panel is not None else None
        found.append(Reproduction(row, ours if ours is not None and ours.count else None))
    return found


def _further(panels: Mapping[tuple[str, str], Panel | None]) -> Iterator[Published]:
    """By each measure of a paper, the methods that were measured as its own and that it does not have."""
    known = {(row.paper, row.label) for row in TABLE}
    kinds = dict.fromkeys((row.paper, row.measure, row.network, row.block, row.column) for row in TABLE)
    labels = {place: [] if panel is None else panel.methods for place, panel in panels.items()}
    for paper in DIFFERS:
        mine = [kind for kind in kinds if kind[0] == paper]
        for label in labels[mine[0][3], mine[0][2]]:
            if (paper, label) not in known:
                for _, measure, network, block, column in mine:
                    yield Published(paper, f"`{label}`", measure, None, network, block, label, column)


def of_paper(rows: Iterable[Reproduction], paper: str) -> list[Reproduction]:
    """The numbers of a paper that are measured again, and those of further methods."""
    return [row for row in rows if row.published.paper == paper and row.ours is not None]


def within(rows: Iterable[Reproduction]) -> int:
    """How many published numbers lie within our interval."""
    return sum(
        row.ours.low <= row.published.value <= row.ours.high
        for row in rows
        if row.ours is not None and row.published.value is not None
    )


def ordered_alike(rows: Iterable[Reproduction]) -> tuple[int, int]:
    """Of the pairs of methods that a paper has by one measure, how many have the published order here, and of how
    many; pairs whose published numbers are equal are left out."""
    pairs = [
        (one.published.value - other.published.value) * (one.ours.mean - other.ours.mean)
        for one, other in combinations(rows, 2)
        if one.ours is not None and other.ours is not None
        if one.published.value is not None and other.published.value is not None
        if (one.published.paper, one.published.measure) == (other.published.paper, other.published.measure)
        if one.published.value != other.published.value
    ]
    return sum(product > 0 for product in pairs), len(pairs)


def title(network: str) -> str:
    """What people call a network."""
    return NETWORKS[network].title if network in NETWORKS else network
