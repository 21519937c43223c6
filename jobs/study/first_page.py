"""What the project's first page says of the study: the table at a glance, its wins and losses, each answer in short.

All of it is made from the published data, and written anew whenever they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.study import extent, sentences
from jobs.study.answers import in_short, short_table
from jobs.study.better import DEFAULT
from jobs.study.data import CORE, GAP, SANITY, Measure, Panel, Study, rivals
from jobs.study.design import VARIANTS
from jobs.study.glance import HARDEST, glance_table, legend
from jobs.study.inference import mean_of
from jobs.study.published import title
from jobs.study.rivalry import Comparison, tally
from jobs.study.tables import markdown
from jobs.study.words import listed, span
from pipeline.report.numbers import number
from ssig.errors import UsageError

BEGIN, END = "<!-- made by `make study-figures` -->", "<!-- end of what it makes -->"
READING = (
    "Methods take at most 32 gradients. Some rivals remove features too, along a path. The weights of some networks "
    "were compressed. Certainty is the greatest mutual information of the map with one of five features of its image, "
    "edges among them, in nats; [Metrics](docs/reference/metrics.md) defines the others. Below, “surely” is p < .05 "
    "after Holm's correction, for the comparisons that the study names with each question."
)
PAGE = "docs/study/index.md"
SHORT = "The questions of the study; each leads to its answer with intervals, images and networks:"
STABILITY, MPRT = SANITY
ROC_AUC, CERTAINTY = (
    next(measure for measure in CORE if measure.column == column) for column in ("roc_auc", "certainty")
)
BLIND = {ROC_AUC: "centre", CERTAINTY: "sobel"}  # controls that see no network, by the measures they do well by


def section(study: Study, answers: Mapping[str, Any]) -> str:
    """The section in Markdown."""
    introduction = f"{_introduction(study, answers)} {HARDEST}"
    table = markdown(glance_table(study, answers["leads"]))
    reading = f"{legend(answers['rivalry'])} {READING}"
    points = "\n".join(f"- {point}" for point in findings(study, answers))
    short = markdown(short_table(in_short(answers), PAGE))
    return "\n\n".join([introduction, table, reading, points, SHORT, short])


def update(page: Path, text: str) -> None:
    """Puts the section between its marks on a page.

    Raises:
        UsageError: the page has no such marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(str(page), "no marks", f"a page with the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def _introduction(study: Study, answers: Mapping[str, Any]) -> str:
    gaps = [row for row in answers["leads"] if row.measure == GAP]
    panels = [panel for row in gaps if (panel := study.panel("core", row.network)) is not None]
    sizes = [max(panel.some(VARIANTS).counts().values()) for panel in panels]
    most = max(sizes)
    fewer = [f"{size} on {title(panel.network)}" for panel, size in zip(panels, sizes, strict=True) if size < most]
    return (
        f"[The study]({PAGE}) asks which claims hold, on the first {most} of 500 ILSVRC2012 validation images"
        f"{f' ({listed(fewer)})' if fewer else ''}, beside {span(len(rivals(panel)) for panel in panels)} rivals. "
        f"Measured so far: {extent.blocks_done(study)}."
    )


def findings(study: Study, answers: Mapping[str, Any]) -> list[str]:
    """A point for each finding that is measured, losses first."""
    rows, leads = answers["rivalry"], answers["leads"]
    networks = list(dict.fromkeys(row.network for row in leads if row.measure == GAP))
    points = [
        _losses(leads),
        f"*Wins.* {_ahead(leads)}{sentences.wins(rows)}",
        f"*Which variant?* {_variants(study, networks)}",
        _sanity(study, rows, networks),
        _controls(answers["controls"]),
    ]
    return [point for point in points if point]


def _losses(leads: Sequence[Comparison]) -> str:
    parts: list[tuple[int, str]] = []
    for measure in dict.fromkeys(row.measure for row in leads if row.measure != GAP):
        mine = [row for row in leads if row.measure == measure]
        lost = [row for row in mine if row.sign < 0]
        if lost:
            parts.append((len(lost), f"by {measure.title} on {len(lost)} of {len(mine)} ({_rivals(lost)})"))
    others = [text for _, text in sorted(parts, key=lambda part: -part[0])]
    gaps = [row for row in leads if row.measure == GAP]
    behind = [row for row in gaps if row.estimate.mean < 0]
    texts = []
    if behind:
        sure = sum(row.sign < 0 for row in behind)
        texts.append(
            f"By {GAP.title} the best variant is behind a rival on {len(behind)} of {len(gaps)} networks "
            f"({_rivals(behind)}), surely on {sure}."
        )
    if others:
        texts.append(f"It is surely behind a rival {listed(others)}.")
    return " ".join(["*Losses.*", *texts]) if texts else ""


def _ahead(leads: Sequence[Comparison]) -> str:
    """By what the best variant is ahead of every rival on every network, sure or not; empty if by nothing."""
    parts = []
    for measure in dict.fromkeys(row.measure for row in leads):
        mine = [row for row in leads if row.measure == measure]
        if all(row.estimate.mean > 0 for row in mine):
            names = listed([f"`{name}`" for name in dict.fromkeys(row.variant for row in mine)])
            parts.append(f"by {measure.title} on {len(mine)} of {len(mine)} networks ({names})")
    return f"In the mean the best variant is ahead of every rival that was measured {listed(parts)}. " if parts else ""


def _rivals(rows: Sequence[Comparison]) -> str:
    return listed([f"`{name}`" for name in dict.fromkeys(row.rival for row in rows)])


def _variants(study: Study, networks: Sequence[str]) -> str:
    means = {measure: [_means(study, network, measure) for network in networks] for measure in (GAP, ROC_AUC)}
    best = {measure: [max(each, key=each.__getitem__) for each in means[measure]] for measure in means}
    gap = " or ".join(f"`{name}`" for name in VARIANTS if name in best[GAP])
    localises = max(VARIANTS, key=best[ROC_AUC].count)
    lowest = sum(min(each, key=each.__getitem__) == DEFAULT for each in means[GAP])
    return (
        f"Of the {len(VARIANTS)}, {gap} has the highest mean {GAP.title} on each network, and `{localises}` the "
        f"highest mean {ROC_AUC.title} on {best[ROC_AUC].count(localises)} of {len(networks)}. `{DEFAULT}`, with "
        f"magnitudes as in the paper, has the lowest mean {GAP.title} on {lowest}."
    )


def _means(study: Study, network: str, measure: Measure) -> dict[str, float]:
    """Variant -> its mean on a network."""
    panel = study.panel("core", network)
    assert panel is not None  # the comparisons are made from it
    return {name: float(np.nanmean(panel.of(measure.column, name))) for name in VARIANTS if name in panel.methods}


def _controls(rows: Sequence[Comparison]) -> str:
    parts = []
    for measure, control in BLIND.items():
        mine = [row.sign for row in rows if (row.measure, row.rival) == (measure, control)]
        if mine:
            parts.append(
                f"By {measure.title}, `{control}` is surely better than the best variant on {mine.count(-1)} of "
                f"{len(mine)} networks and surely worse on {mine.count(1)}."
            )
    return f"*Controls*, which do not see the network. {' '.join(parts)}" if parts else ""


def _sanity(study: Study, rows: Sequence[Comparison], networks: Sequence[str]) -> str:
    """How much a map owes to its seed, and how much to the layers of the network."""
    panels = [panel for name in networks if (panel := study.panel("sanity", name)) is not None]
    mine = [row for row in rows if row.measure in SANITY and row.network in {panel.network for panel in panels}]
    if not mine:
        return ""
    where = (
        f"({listed([title(panel.network) for panel in panels])}; {span(row.estimate.count for row in mine)} images)"
    )
    parts = []
    if stable := _levels(panels, STABILITY):
        parts.append(f"Maps of two seeds have the rank correlation {stable}.")
    if randomised := _levels(panels, MPRT):
        lost = [tally(rows, DEFAULT, MPRT.column, panel.network) for panel in panels]
        behind = sentences.of_rivals([(each[1], sum(each)) for each in lost], [panel.network for panel in panels])
        verdict = f" By it `{DEFAULT}` is surely behind {behind}." if any(map(sum, lost)) else ""
        parts.append(
            "MPRT, how alike maps are before and after layers of the network are randomised (lower is better), is "
            f"{randomised}.{verdict}"
        )
    return f"*Stability and MPRT* {where}. {' '.join(parts)}"


def _levels(panels: Sequence[Panel], measure: Measure) -> str:
    """The lowest and highest mean over networks, of each variant that has some."""
    parts = []
    for name in VARIANTS:
        means = [
            mean_of(panel.of(measure.column, name)).mean
            for panel in panels
            if name in panel.methods and measure.column in panel.columns
        ]
        means = [mean for mean in means if np.isfinite(mean)]
        if means:
            low, high = (number(bound) for bound in (min(means), max(means)))
            parts.append(f"{low if low == high else f'{low} to {high}'} under `{name}`")
    return listed(parts) if parts else ""
