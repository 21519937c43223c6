"""What the project's first page says of the study: the table at a glance, and a point for each finding.

All of it is made from the published data, so that no verdict there outlives its numbers. Networks stand in the order
of the table, and a list of numbers has one for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.study import answers as answer
from jobs.study import sentences
from jobs.study.against_noise import Against
from jobs.study.augmentation import DIFFERENCE, RIVALS, Augmentation
from jobs.study.better import DEFAULT
from jobs.study.data import CORE, GAP, SANITY, Measure, Panel, Study, rivals
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
SURELY = (
    "Below, “surely” is p < .05 by Holm's correction for all comparisons of the same question, and numbers in a row "
    "follow the networks of the table, or those that are named."
)
SIGNED = "ssig-signed"
DELETION, ROC_AUC, CERTAINTY = (
    next(measure for measure in CORE if measure.column == column) for column in ("deletion", "roc_auc", "certainty")
)
BLIND = {ROC_AUC: "centre", CERTAINTY: "sobel"}  # controls that see no network, by the measures they do well by


def section(study: Study, answers: Mapping[str, Any]) -> str:
    """The section in Markdown."""
    points = "\n".join(f"- {point}" for point in findings(study, answers))
    table = markdown(glance_table(study, answers["leads"]))
    signs = f"{legend(answers['rivalry'])} {SURELY}"
    return f"{_introduction(study, answers)}\n\n{table}\n\n{signs}\n\n{points}"


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
    counts = [len(rivals(panel)) for row in gaps if (panel := study.panel("core", row.network)) is not None]
    most = max(row.estimate.count for row in gaps)
    fewer = [f"{row.estimate.count} on {title(row.network)}" for row in gaps if row.estimate.count < most]
    return (
        f"[The study](docs/study/index.md) asks which claims hold, on the first {most} of 500 ILSVRC2012 validation "
        f"images{f' ({listed(fewer)})' if fewer else ''}, beside {_in_turn(counts)} rivals on the networks of the "
        f"table. It is under way: {sentences.blocks_done(study)}. The table has the best variant of suppression and "
        "its hardest rival, the one that is ahead by most or behind by least, with at most 32 gradients. Certainty "
        "is the greatest mutual information of the map with one of five features of its image, edges among them, in "
        "nats."
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
        _augmentation(answers["augmentation"]),
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
    parts = [f"by {_name(measure)} on {len(lost[measure])} ({_rivals_of(lost[measure])})" for measure in order]
    return f"*It loses.* The best variant is surely behind a rival, of {networks} networks, {listed(parts)}."


def _rivals_of(rows: Sequence[Comparison]) -> str:
    return listed([f"`{name}`" for name in dict.fromkeys(row.rival for row in rows)])


def _name(measure: Measure) -> str:
    return "insertion minus deletion (the gap)" if measure == GAP else measure.title


def _wins(rows: Sequence[Comparison], networks: Sequence[str]) -> str:
    parts = []
    for measure in (DELETION, GAP):
        wins = {name: [tally(rows, name, measure.column, network) for network in networks] for name in VARIANTS}
        best = max(VARIANTS, key=lambda name: sum(won for won, _, _ in wins[name]))
        words = "the gap" if measure == GAP else measure.title
        parts.append(f"By {words}, `{best}` is surely ahead of {_of([(each[0], sum(each)) for each in wins[best]])}.")
    champions = _champions(rows)
    first = (
        f"*It leads.* {champions}" if champions else "*It leads nowhere:* no variant is surely ahead of every rival."
    )
    return " ".join([first, *parts])


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
        return ""
    return f"These are surely ahead of every rival that has a number (how many: in brackets): {'; '.join(parts)}."


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
        f"*Which variant.* Of the five, {gap} has the highest mean gap on each network, and `{localises}` the highest "
        f"mean ROC-AUC on {best[ROC_AUC].count(localises)} of {len(networks)}. `{DEFAULT}`, with magnitudes as in the "
        f"paper, has the lowest mean gap on {lowest}. By the gap, `{DEFAULT}` is surely behind "
        f"{_of([(each[1], sum(each)) for each in losses])}.{_controls(controls)}"
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
    where = _where((panel.network for panel in panels), (row.estimate.count for row in mine))
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
        words = [
            f"{verb} {_of([(each[place], sum(each)) for each in tallies])}"
            for place, verb in enumerate(("ahead of", "behind"))
            if any(each[place] for each in tallies)
        ]
        verdict = f"surely {listed(words)}" if words else "told apart from no rival"
        parts += [f"`{name}` ({listed(means)}) is {verdict}"] if means else []
    return listed(parts) if parts else ""


def _noise(rows: Sequence[Against]) -> str:
    rows = [row for row in rows if row.measure == GAP]
    parts = []
    for integrand, words in sentences.INTEGRAND_WORDS.items():
        each = []
        for network in dict.fromkeys(row.network for row in rows):
            mine = [row.sign for row in rows if (row.integrand, row.network) == (integrand, network)]
            if mine:
                each.append(f"{mine.count(1)} better and {mine.count(-1)} worse of {len(mine)} on {title(network)}")
        if each:
            parts.append(f"with {words}, {listed(each)}")
    if not parts:
        return ""
    size = span(row.estimate.count for row in rows)
    return (
        f"*Suppression or noise?* Laws of suppression that are surely better or worse than noise by the gap ({size} "
        f"images): {'; '.join(parts)}."
    )


def _claims(answers: Mapping[str, Any]) -> str:
    """The papers' claims of nearness, certainty and saturation."""
    parts = [*_near(answers["near"]), *_linked(answers["links"]), *_saturated(answers["saturation"])]
    return f"*Claims of the papers.* {' '.join(parts)}" if parts else ""


def _where(networks: Iterable[str], images: Iterable[int]) -> str:
    return f"({listed([title(name) for name in dict.fromkeys(networks)])}; {span(images)} images)"


def _near(rows: Sequence[Contrast]) -> Iterator[str]:
    own = answer.own_law(rows, "kid")
    if own:
        signs = [row.sign for row in own]
        where = _where((row.network for row in own), (row.estimate.count for row in own))
        yield (
            f"By kernel distance, samples of `{DEFAULT}` are surely nearer to natural images than noise that changes "
            f"the pixels as much on {signs.count(-1)} of {len(own)} networks and surely farther on {signs.count(1)} "
            f"{where}."
        )


def _linked(rows: Sequence[Link]) -> Iterator[str]:
    for over, words, first, second, names in (
        (LAWS, "laws and strengths", "nearness", "certainty", "nearness of the features and certainty"),
        (LAWS, "laws and strengths", "certainty", "faithfulness", "certainty and the gap"),
        (METHODS, "methods", "nearness", "faithfulness", "nearness of the features and the gap"),
    ):
        mine = [row for row in rows if (row.over, row.first, row.second) == (over, first, second)]
        mine = [row for row in mine if np.isfinite(row.estimate.low)]
        if mine:
            where = _where((row.network for row in mine), (row.images for row in mine))
            yield (
                f"Over {span(row.estimate.count for row in mine)} {words}, the rank correlation of {names} is "
                f"{listed([shown(row.estimate) for row in mine])} {where}."
            )


def _saturated(rows: Sequence[Contrast]) -> Iterator[str]:
    own = answer.own_law(rows, "log_gradient")
    gradients = [row.sign for row in own]
    probabilities = [row.sign for row in answer.own_law(rows, "probability")]
    if own:
        where = _where((row.network for row in own), (row.estimate.count for row in own))
        yield (
            f"At equal change of the pixels, the gradient under the law of `{DEFAULT}` is surely higher than under "
            f"noise on {gradients.count(1)} of {len(gradients)} networks; the target's probability is surely higher "
            f"on {probabilities.count(1)} and surely lower on {probabilities.count(-1)} {where}."
        )


def _augmentation(change: Augmentation | None) -> str:
    if change is None:
        return ""
    mine = [row for row in change.levels if row.group == RIVALS]
    heavy = [row for row in mine if row.augmented]
    light = listed([title(row.network) for row in mine if not row.augmented])
    contrast = change.contrasts[DIFFERENCE]
    return (
        f"*Heavy augmentation.* On {listed([title(row.network) for row in heavy])}, whose usual training has it, the "
        f"mean gap of {heavy[0].methods} rivals is {listed([shown(row.estimate) for row in heavy])} above that of "
        f"random maps. From {light}, whose training is light, to these networks, what suppression has over the rivals "
        f"changes by {shown(contrast, sign=True)} ({contrast.count} images). Architecture differs too, so this proves "
        "no cause."
    )


def _cost(answers: Mapping[str, Any]) -> str:
    text = answer.cost(answers["costs"], answers["reached"])
    parts = [f"{text[0].upper()}{text[1:]}."] if text else []
    if answers["rises"]:
        parts.append(
            f"Is another law, integrand or cost better than `{DEFAULT}`? {sentences.default(answers['rises'])}"
        )
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
        f"*Published numbers.* Within our intervals ({span(sizes)} images) lie {listed(parts)}. Networks, weights and "
        "protocols differ, and the intervals are wide."
    )
