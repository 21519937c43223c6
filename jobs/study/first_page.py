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
from jobs.study.published import DIFFERS, of_paper, title, within
from jobs.study.rivalry import Comparison, tally
from jobs.study.tables import markdown
from jobs.study.words import listed, span
from pipeline.report.numbers import number
from ssig.errors import UsageError

BEGIN, END = "<!-- made by `make study-figures` -->", "<!-- end of what it makes -->"
SURELY = (
    "Below, “surely” is p < .05 by Holm's correction, for the comparisons that the study names with each question."
)
PAGE = "docs/study/index.md"
SHORT = "The questions of the study; each leads to its answer with intervals, images and networks:"
SIGNED = "ssig-signed"
ROC_AUC, CERTAINTY = (
    next(measure for measure in CORE if measure.column == column) for column in ("roc_auc", "certainty")
)
BLIND = {ROC_AUC: "centre", CERTAINTY: "sobel"}  # controls that see no network, by the measures they do well by


def section(study: Study, answers: Mapping[str, Any]) -> str:
    """The section in Markdown."""
    points = "\n".join(f"- {point}" for point in findings(study, answers))
    table = markdown(glance_table(study, answers["leads"]))
    signs = f"{legend(answers['rivalry'])} {SURELY}"
    short = markdown(short_table(in_short(answers), PAGE))
    return f"{_introduction(study, answers)}\n\n{table}\n\n{signs}\n\n{points}\n\n{SHORT}\n\n{short}"


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
        f"[The study]({PAGE}) asks which claims hold, on the first {most} of 500 ILSVRC2012 validation "
        f"images{f' ({listed(fewer)})' if fewer else ''}, beside {span(len(rivals(panel)) for panel in panels)} "
        f"rivals. Measured so far: {extent.blocks_done(study)}. {HARDEST} Methods take at most 32 gradients. "
        "Certainty is the greatest mutual information of the map with one of five features of its image, edges among "
        "them, in nats."
    )


def findings(study: Study, answers: Mapping[str, Any]) -> list[str]:
    """A point for each finding that is measured, losses first."""
    rows, leads = answers["rivalry"], answers["leads"]
    networks = list(dict.fromkeys(row.network for row in leads if row.measure == GAP))
    points = [
        _losses(leads),
        f"*Wins.* {sentences.wins(rows)}",
        _variants(study, rows, answers["controls"], networks),
        _sanity(study, rows, networks),
        _published(answers),
    ]
    return [point for point in points if point]


def _losses(leads: Sequence[Comparison]) -> str:
    parts: list[tuple[int, str]] = []
    for measure in dict.fromkeys(row.measure for row in leads):
        mine = [row for row in leads if row.measure == measure]
        lost = [row for row in mine if row.sign < 0]
        if lost:
            names = listed([f"`{name}`" for name in dict.fromkeys(row.rival for row in lost)])
            parts.append((len(lost), f"by {measure.title} on {len(lost)} of {len(mine)}{{}} ({names})"))
    if not parts:
        return ""
    first, *others = [text for _, text in sorted(parts, key=lambda part: -part[0])]
    words = [first.format(" networks"), *(text.format("") for text in others)]
    return f"*Losses.* The best variant is surely behind a rival {listed(words)}."


def _variants(
    study: Study, rows: Sequence[Comparison], controls: Sequence[Comparison], networks: Sequence[str]
) -> str:
    means = {measure: [_means(study, network, measure) for network in networks] for measure in (GAP, ROC_AUC)}
    best = {measure: [max(each, key=each.__getitem__) for each in means[measure]] for measure in means}
    gap = " or ".join(f"`{name}`" for name in VARIANTS if name in best[GAP])
    localises = max(VARIANTS, key=best[ROC_AUC].count)
    lowest = sum(min(each, key=each.__getitem__) == DEFAULT for each in means[GAP])
    losses = [tally(rows, DEFAULT, GAP.column, network) for network in networks]
    behind = sentences.of_rivals([(each[1], sum(each)) for each in losses], networks)
    return (
        f"*Which variant?* Of the {len(VARIANTS)}, {gap} has the highest mean gap (insertion minus deletion) on each "
        f"network, and `{localises}` the highest mean ROC-AUC on {best[ROC_AUC].count(localises)} of "
        f"{len(networks)}. `{DEFAULT}`, with magnitudes as in the paper, has the lowest mean gap on {lowest}. By the "
        f"gap, `{DEFAULT}` is surely behind {behind}.{_controls(controls)}"
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
                f"by {measure.title}, `{control}` is surely better than the best variant on {mine.count(-1)} of "
                f"{len(mine)} networks and surely worse on {mine.count(1)}"
            )
    return f" No control sees the network: {'; '.join(parts)}." if parts else ""


def _sanity(study: Study, rows: Sequence[Comparison], networks: Sequence[str]) -> str:
    panels = [panel for name in networks if (panel := study.panel("sanity", name)) is not None]
    mine = [row for row in rows if row.measure in SANITY and row.network in {panel.network for panel in panels}]
    if not mine:
        return ""
    where = (
        f"({listed([title(panel.network) for panel in panels])}; {span(row.estimate.count for row in mine)} images)"
    )
    stable, randomised = (_verdicts(panels, rows, measure) for measure in SANITY)
    parts = [f"By stability from seed to seed, {stable}."] if stable else []
    if randomised:
        parts.append(
            "MPRT is lower where a map changes more when layers of the network are randomised, which is better: by "
            f"it, {randomised}."
        )
    return f"*Stability and MPRT* {where}. {' '.join(parts)}"


def _verdicts(panels: Sequence[Panel], rows: Sequence[Comparison], measure: Measure) -> str:
    parts = []
    for name in (DEFAULT, SIGNED):
        mine = [panel for panel in panels if name in panel.methods and measure.column in panel.columns]
        tallies = [tally(rows, name, measure.column, panel.network) for panel in mine]
        means = [number(mean_of(panel.of(measure.column, name)).mean) for panel in mine]
        places = [panel.network for panel in mine]
        words = [
            f"{verb} {sentences.of_rivals([(each[place], sum(each)) for each in tallies], places)}"
            for place, verb in enumerate(("ahead of", "behind"))
            if any(each[place] for each in tallies)
        ]
        verdict = f"surely {listed(words)}" if words else "told apart from no rival"
        parts += [f"`{name}` ({listed(means)}) is {verdict}"] if means else []
    return listed(parts) if parts else ""


def _published(answers: Mapping[str, Any]) -> str:
    parts, sizes = [], []
    for paper in DIFFERS:
        rows = [row for row in of_paper(answers["reproductions"], paper) if row.published.value is not None]
        if rows:
            parts.append(f"{within(rows)} of {len(rows)} of {paper}")
            sizes += [row.ours.count for row in rows if row.ours is not None]
    if not parts:
        return ""
    return (
        f"*Published numbers.* Within our intervals ({span(sizes)} images) lie {listed(parts)}. Networks, weights and "
        "protocols differ, and of so few images intervals are wide: these are weak checks."
    )
