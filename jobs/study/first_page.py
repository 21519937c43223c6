"""What the project's first page says of the study: the table at a glance, and a point for each finding.

All of it is made from the published data, so that no verdict there outlives its numbers. Networks stand in the order
of the table, and a list of numbers has one for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.study import answers as answer
from jobs.study import sentences
from jobs.study.against_noise import Against
from jobs.study.augmentation import DIFFERENCE, RIVALS
from jobs.study.better import DEFAULT
from jobs.study.data import CORE, GAP, SANITY, Measure, Study, rivals
from jobs.study.design import VARIANTS
from jobs.study.equal_change import Contrast
from jobs.study.glance import glance_table, legend
from jobs.study.inference import mean_of
from jobs.study.nearness import LAWS, METHODS, Link
from jobs.study.published import DIFFERS, of_paper, title, within
from jobs.study.rivalry import OVER, Comparison, tally
from jobs.study.text import listed, markdown, shown, span
from pipeline.report.numbers import number
from ssig.errors import UsageError

BEGIN, END = "<!-- made by `make study-figures` -->", "<!-- end of what it makes -->"
SIGNED = "ssig-signed"
DELETION, ROC_AUC, CERTAINTY = (
    next(measure for measure in CORE if measure.column == column) for column in ("deletion", "roc_auc", "certainty")
)
STABILITY, MPRT = SANITY
BLIND = {ROC_AUC: "centre", CERTAINTY: "sobel"}  # controls that see no network, by the measures they do well by


def section(study: Study, answers: Mapping[str, Any]) -> str:
    """The section in Markdown."""
    points = "\n".join(f"- {point}" for point in findings(study, answers))
    table = markdown(glance_table(study, answers["leads"]))
    return f"{_introduction(study, answers)}\n\n{table}\n\n{legend(answers['rivalry'])}\n\n{points}"


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
    networks = list(dict.fromkeys(row.network for row in answers["leads"]))
    counts = [len(rivals(panel)) for name in networks if (panel := study.panel("core", name)) is not None]
    images = span(row.estimate.count for row in answers["leads"] if row.measure == GAP)
    return (
        f"[The study](docs/study/index.md) asks which claims hold, on {len(networks)} networks and the first {images} "
        f"of 500 ILSVRC2012 validation images, with at most 32 gradients an image, beside {_in_turn(counts)} rivals. "
        f"It is under way: {sentences.blocks_done(study)}. The table has the best variant of suppression and its "
        "hardest rival; certainty is the mutual information of map and image, in nats. In the points below it, "
        "numbers in a row are those of the networks in the table's order."
    )


def findings(study: Study, answers: Mapping[str, Any]) -> list[str]:
    """A point for each finding that is measured, losses first."""
    rows, networks = answers["rivalry"], list(dict.fromkeys(row.network for row in answers["leads"]))
    points = [
        _losses(answers["leads"], len(networks)),
        _wins(rows, networks),
        _variants(study, rows, answers["controls"], networks),
        _sanity(study, rows, networks),
        _noise(answers["noise"]),
        _claims(answers),
        _cost(answers),
        _published(answers),
    ]
    return [point for point in points if point]


def _in_turn(counts: Sequence[object]) -> str:
    return listed([str(count) for count in counts])


def _losses(leads: Sequence[Comparison], networks: int) -> str:
    lost: dict[Measure, list[Comparison]] = {}
    for row in leads:
        if row.sign < 0:
            lost.setdefault(row.measure, []).append(row)
    if not lost:
        return ""
    order = sorted(lost, key=lambda measure: -len(lost[measure]))
    parts = [f"on {len(lost[measure])} by {_name(measure)} ({_rivals_of(lost[measure])})" for measure in order]
    return f"*It loses.* Of {networks} networks, its best variant is surely behind a rival {listed(parts)}."


def _rivals_of(rows: Sequence[Comparison]) -> str:
    return listed([f"`{name}`" for name in dict.fromkeys(row.rival for row in rows)])


def _name(measure: Measure) -> str:
    return "insertion minus deletion, the gap" if measure == GAP else measure.title


def _wins(rows: Sequence[Comparison], networks: Sequence[str]) -> str:
    parts = []
    for measure in (DELETION, GAP):
        wins = {name: [tally(rows, name, measure.column, network) for network in networks] for name in VARIANTS}
        best = max(VARIANTS, key=lambda name: sum(won for won, _, _ in wins[name]))
        words = "the gap" if measure == GAP else measure.title
        parts.append(f"By {words}, `{best}` is surely ahead of {_of([(each[0], sum(each)) for each in wins[best]])}.")
    return f"*It leads.* {_champions(rows)} {' '.join(parts)}"


def _of(counts: Sequence[tuple[int, int]]) -> str:
    """How many of how many rivals, network by network; once where it is the same on each."""
    words = [f"{count} of {all_of}" for count, all_of in counts]
    same = len(set(words)) == 1 < len(words)
    return f"{words[0]} rivals on each network" if same else f"{listed(words)} rivals"


def _champions(rows: Sequence[Comparison]) -> str:
    """By which measures some variant is surely ahead of every rival that was tested."""
    parts = []
    for measure in dict.fromkeys(row.measure for row in rows):
        for variant in VARIANTS:
            places = []
            for network in dict.fromkeys(row.network for row in rows if row.measure == measure):
                won, lost, level = tally(rows, variant, measure.column, network)
                if network != OVER and won and not lost + level:
                    places.append(f"{title(network)} ({won})")
            if places:
                parts.append(f"`{variant}` by {measure.title} on {listed(places)}")
    if not parts:
        return "No variant is surely ahead of every rival by any metric."
    return f"Surely ahead of every rival (how many: in brackets): {'; '.join(parts)}."


def _variants(
    study: Study, rows: Sequence[Comparison], controls: Sequence[Comparison], networks: Sequence[str]
) -> str:
    means = {measure: [_means(study, network, measure) for network in networks] for measure in (GAP, ROC_AUC)}
    best = {measure: [max(each, key=each.__getitem__) for each in means[measure]] for measure in means}
    gap = " or ".join(f"`{name}`" for name in VARIANTS if name in best[GAP])
    localises = max(VARIANTS, key=best[ROC_AUC].count)
    lowest = sum(min(each, key=each.__getitem__) == DEFAULT for each in means[GAP])
    losses = [tally(rows, DEFAULT, GAP.column, network) for network in networks]
    return (
        f"*Take {gap} for the gap, `{localises}` for ROC-AUC.* Of the variants, {gap} has the highest mean gap on "
        f"each network, and `{localises}` the highest mean ROC-AUC on {best[ROC_AUC].count(localises)} of "
        f"{len(networks)}. `{DEFAULT}`, with magnitudes as in the paper, has the lowest mean gap on {lowest}; by it, "
        f"`{DEFAULT}` is surely behind {_of([(each[1], sum(each)) for each in losses])}.{_controls(controls)}"
    )


def _means(study: Study, network: str, measure: Measure) -> dict[str, float]:
    """Variant -> its mean on a network."""
    panel = study.panel("core", network)
    assert panel is not None  # the comparisons are made from it
    return {name: float(np.nanmean(panel.of(measure.column, name))) for name in VARIANTS if name in panel.methods}


def _controls(rows: Sequence[Comparison]) -> str:
    parts = []
    for measure, control in BLIND.items():
        mine = [row for row in rows if (row.measure, row.rival) == (measure, control)]
        if mine:
            won = sum(row.sign > 0 for row in mine)
            parts.append(f"by {measure.title} on {won} of {len(mine)} networks than `{control}`")
    return f" Controls see no network: the best variant is surely better {listed(parts)}." if parts else ""


def _sanity(study: Study, rows: Sequence[Comparison], networks: Sequence[str]) -> str:
    measured = [name for name in networks if (study.panel("sanity", name)) is not None]
    mine = [row for row in rows if row.measure in SANITY and row.network in measured]
    if not mine:
        return ""
    stable = _verdicts(study, rows, STABILITY, measured)
    randomised = _verdicts(study, rows, MPRT, measured)
    return (
        f"*Stability and MPRT* ({listed([title(name) for name in measured])}; "
        f"{span(row.estimate.count for row in mine)} images.) By stability from seed to seed, {stable}. By MPRT, "
        f"{randomised}. Lower is better there: a high MPRT says that a map changes little when layers of the network "
        "are randomised."
    )


def _verdicts(study: Study, rows: Sequence[Comparison], measure: Measure, networks: Sequence[str]) -> str:
    parts = []
    for name in (DEFAULT, SIGNED):
        tallies = [tally(rows, name, measure.column, network) for network in networks]
        panels = [panel for network in networks if (panel := study.panel("sanity", network)) is not None]
        means = [number(mean_of(panel.of(measure.column, name)).mean) for panel in panels]
        words = [
            f"{verb} {_of([(each[place], sum(each)) for each in tallies])}"
            for place, verb in enumerate(("ahead of", "behind"))
            if any(each[place] for each in tallies)
        ]
        parts.append(f"`{name}` ({listed(means)}) is surely {listed(words)}")
    return listed(parts)


def _noise(rows: Sequence[Against]) -> str:
    rows = [row for row in rows if row.measure == GAP]
    networks = list(dict.fromkeys(row.network for row in rows))
    parts = []
    for integrand, words in sentences.INTEGRAND_WORDS.items():
        mine = [row for row in rows if row.integrand == integrand]
        signs = [[row.sign for row in mine if row.network == network] for network in networks]
        if mine:
            higher, lower = (_in_turn([each.count(sign) for each in signs]) for sign in (1, -1))
            laws = len({row.law for row in mine})
            parts.append(
                f"With {words}, {higher} of {laws} laws of suppression surely have a higher gap than noise, and "
                f"{lower} a lower one."
            )
    if not parts:
        return ""
    where = f"{listed([title(name) for name in networks])}; {span(row.estimate.count for row in rows)} images"
    return f"*Suppression or noise?* ({where}.) {' '.join(parts)}"


def _claims(answers: Mapping[str, Any]) -> str:
    """The papers' claims of nearness, certainty, saturation and augmentation."""
    parts = [*_near(answers["near"]), *_linked(answers["links"]), *_saturated(answers["saturation"])]
    change = answers["augmentation"]
    if change is not None:
        levels = [row for row in change.levels if row.augmented and row.group == RIVALS]
        failing = sum(row.estimate.sign <= 0 for row in levels)
        contrast = change.contrasts[DIFFERENCE]
        parts.append(
            f"Of {len(levels)} networks trained with heavy augmentation, the mean gap of rivals is not above that of "
            f"random maps on {failing}; from light to heavy, what suppression has over rivals changes by "
            f"{shown(contrast, sign=True)} ({contrast.count} images)."
        )
    return f"*Claims of the papers.* {' '.join(parts)}" if parts else ""


def _near(rows: Sequence[Contrast]) -> Iterator[str]:
    own = [row for row in rows if row.quantity == "kid" and (row.law, row.strength) == sentences.OWN_LAW]
    if own:
        nearer, farther = (sum(row.sign == sign for row in own) for sign in (-1, 1))
        yield (
            f"By kernel distance (KID), at equal change of the pixels, samples of `{DEFAULT}` are surely nearer to "
            f"natural images than noise on {nearer} and surely farther on {farther} of {len(own)} networks "
            f"({span(row.estimate.count for row in own)} images)."
        )


def _linked(rows: Sequence[Link]) -> Iterator[str]:
    laws = [row for row in rows if row.over == LAWS and (row.first, row.second) == ("nearness", "certainty")]
    methods = [row for row in rows if row.over == METHODS and (row.first, row.second) == ("nearness", "faithfulness")]
    for mine, what, of in ((laws, "certainty", "laws and strengths"), (methods, "the gap", "methods")):
        finite = [row for row in mine if np.isfinite(row.estimate.low)]
        if finite:
            yield (
                f"Over {span(row.estimate.count for row in finite)} {of}, the rank correlation of nearness and {what} "
                f"is {listed([shown(row.estimate) for row in finite])} ({span(row.images for row in finite)} images)."
            )


def _saturated(rows: Sequence[Contrast]) -> Iterator[str]:
    own = [row for row in rows if (row.law, row.strength) == sentences.OWN_LAW]
    gradients, probabilities = (
        [row for row in own if row.quantity == quantity] for quantity in ("log_gradient", "probability")
    )
    if gradients:
        yield (
            "Noise surely saturates the network more than suppression by the gradient on "
            f"{sum(row.sign > 0 for row in gradients)} of {len(gradients)}, by the target's probability on "
            f"{sum(row.sign > 0 for row in probabilities)} ({span(row.estimate.count for row in gradients)} images)."
        )


def _cost(answers: Mapping[str, Any]) -> str:
    text = answer.cost(answers["costs"], answers["reached"])
    parts = [f"{text[0].upper()}{text[1:]}."] if text else []
    if answers["rises"]:
        parts.append(f"Is another kind of suppression better than `{DEFAULT}`? {sentences.default(answers['rises'])}")
    return f"*What it costs.* {' '.join(parts)}" if parts else ""


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
        f"*Published numbers* that lie within our intervals ({span(sizes)} images): {listed(parts)}. Networks, "
        "weights and protocols differ, and the intervals are wide."
    )
