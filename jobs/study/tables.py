"""The tables of the study's page: every number in them comes from the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jobs.study.against_noise import Against
from jobs.study.agreement import Agreement, Worth
from jobs.study.augmentation import Augmentation
from jobs.study.better import DEFAULT, Rise
from jobs.study.choices import QUALITIES, Best, Cost
from jobs.study.data import GAP, MEASURES, MEASURES_BY_GROUP, Measure, Study
from jobs.study.design import VARIANTS
from jobs.study.equal_change import NEARNESS, SATURATION, Contrast
from jobs.study.inference import Estimate, Tested, mean_of, share_of
from jobs.study.labels import SAME
from jobs.study.nearness import OVER_IMAGES, Link
from jobs.study.published import Reproduction, title
from jobs.study.rivalry import OVER, Comparison, tally
from jobs.study.words import listed, shown, span
from pipeline.report.numbers import NONE, number
from pipeline.report.statistics import FEWEST

Table = list[list[str]]
OWN = next(label for label, method in SAME.items() if method == DEFAULT)  # its law and integrand
LEAST_P = 0.001  # below, p is not given


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first row the head; nothing for a head alone."""
    if len(rows) < 2:
        return ""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    rule = " | ".join("---" for _ in rows[0])
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def rivalry_table(rows: Sequence[Comparison], network: str) -> Table:
    """A variant a row and a measure a column: won, lost, open."""
    measures = [
        measure
        for group in MEASURES_BY_GROUP.values()
        for measure in group
        if any(row.measure == measure and row.network == network for row in rows)
    ]
    heads = []
    for measure in measures:
        sizes = [row.estimate.count for row in rows if row.measure == measure and row.network == network]
        heads.append(f"{measure.title}, {'networks' if network == OVER else 'N'} = {span(sizes)}")
    table = [["variant", *heads]]
    for variant in VARIANTS:
        counts = [tally(rows, variant, measure.column, network) for measure in measures]
        if any(map(sum, counts)):
            table.append([f"`{variant}`", *(" / ".join(map(str, each)) if any(each) else NONE for each in counts)])
    return table


def default_table(rows: Iterable[Comparison]) -> Table:
    """A network a row, a measure a column: to how many of its rivals the default method loses."""
    mine = [row for row in rows if row.variant == DEFAULT and row.network != OVER]
    measures = list(dict.fromkeys(row.measure for row in mine))
    table = [["network", *(measure.title for measure in measures)]]
    for network in dict.fromkeys(row.network for row in mine):
        counts = [tally(mine, DEFAULT, measure.column, network) for measure in measures]
        cells = [f"{lost} of {won + lost + level}" if won + lost + level else NONE for won, lost, level in counts]
        table.append([title(network), *cells])
    return table


def mean_table(study: Study, network: str) -> Table:
    """A method a row, a measure a column: mean with its interval and N; best first by the gap."""
    panel = study.joined(network)
    if panel is None or GAP.column not in panel.columns:
        return []
    measures = [measure for measure in MEASURES if measure.column in panel.columns]
    means = {
        name: [_mean(panel.of(measure.column, name), measure.share) for measure in measures] for name in panel.methods
    }
    order = sorted(means, key=lambda name: -np.nan_to_num(means[name][0].mean, nan=-1))
    medians = {name: study.whole("information", network, f"{name}_median") for name in ("aic", "sic")}
    medians = {name: found for name, found in medians.items() if found}
    heads = [f"{measure.title} {'↑' if measure.better > 0 else '↓'}" for measure in measures]
    table = [["method", *heads, *(f"{name.upper()} of the median curve ↑" for name in medians)]]
    for name in order:
        cells = [f"{shown(each)}, N = {each.count}" if each.count else NONE for each in means[name]]
        cells += [_whole(found.get(name)) for found in medians.values()]
        table.append([f"`{name}`", *cells])
    return table


def _whole(found: Mapping[str, Any] | None) -> str:
    """A number of the whole data set, as a block records it."""
    if found is None:
        return NONE
    low, high = (np.nan if found[bound] is None else found[bound] for bound in ("low", "high"))
    return f"{shown(Estimate(found['value'], low, high, found['count']))}, N = {found['count']}"


def _mean(values: np.ndarray, share: bool) -> Estimate:
    return share_of(values) if share else mean_of(values)


def losses_table(rows: Iterable[Comparison]) -> Table:
    """Each rival that surely beats a variant on the gap, network by network."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.measure == GAP and row.sign < 0:
            text = f"`{row.rival}` {shown(row.estimate, sign=True)}"
            found.setdefault((row.network, row.variant), []).append(text)
    table = [["network", "variant", "loses to (difference, interval)"]]
    return [*table, *([title(network), f"`{variant}`", "; ".join(each)] for (network, variant), each in found.items())]


def over_table(rows: Iterable[Comparison]) -> Table:
    """The gap over networks: the interval of Hartung and Knapp, and that of images drawn jointly."""
    table = [["variant", "rival", "networks", "difference", "images drawn jointly", "p, Holm"]]
    for row in rows:
        if row.network == OVER and row.measure == GAP:
            estimate = row.estimate
            table.append(
                [
                    f"`{row.variant}`",
                    f"`{row.rival}`",
                    str(estimate.count),
                    shown(estimate),
                    shown(row.joint),
                    _p(row.p),
                ]
            )
    return table


def contrast_table(rows: Sequence[Contrast], network: str) -> Table:
    """A law and strength a row, a quantity a column: suppression minus noise."""
    words = {**NEARNESS, **SATURATION}
    quantities = list(dict.fromkeys(row.quantity for row in rows))
    table = [["law", "strength", "change of a pixel", "N", *(words[name] for name in quantities)]]
    cells: dict[tuple[str, float], list[Contrast]] = {}
    for row in rows:
        if row.network == network:
            cells.setdefault((row.law, row.strength), []).append(row)
    for (law, strength), each in cells.items():
        count = span(row.estimate.count for row in each)
        table.append([law, f"{strength:g}", number(each[0].change), count, *map(_starred, each)])
    return table


def link_table(rows: Iterable[Link]) -> Table:
    table = [["network", "of", "with", "over", "laws or methods", "N", "rank correlation"]]
    for row in rows:
        count = NONE if row.over == OVER_IMAGES else str(row.estimate.count)
        table.append(
            [title(row.network), row.first, row.second, row.over, count, str(row.images), shown(row.estimate)]
        )
    return table


def augmentation_table(answer: Augmentation | None) -> Table:
    table = [["network", "augmentation", "methods", "insertion minus deletion, minus that of random maps", "N"]]
    for level in answer.levels if answer is not None else ():
        kind = "heavy" if level.augmented else "light"
        count = str(level.estimate.count)
        table.append([title(level.network), kind, level.group, shown(level.estimate), count])
    return table


def cost_table(rows: Sequence[Cost]) -> Table:
    """The fewest gradients that reach each quality."""
    table = [["network", "method", "N", *(f"gradients to {number(quality)}" for quality in QUALITIES)]]
    for row in rows:
        least = [row.least(quality) for quality in QUALITIES]
        cells = [str(count) if count is not None else NONE for count in least]
        table.append([title(row.network), f"`{row.method}`", str(row.quality[0].count), *cells])
    return table


def between_table(rows: Iterable[Agreement]) -> Table:
    """One measure on two networks."""
    table = [["measure", "networks", "methods", "N", "rank correlation"]]
    for row in rows:
        if row.first[0] != row.second[0] and np.isfinite(row.estimate.mean):
            networks = f"{title(row.first[0])}, {title(row.second[0])}"
            sizes = [str(row.estimate.count), str(row.images)]
            table.append([row.first[1].title, networks, *sizes, shown(row.estimate)])
    return table


def told_table(rows: Sequence[Worth]) -> Table:
    """A measure a row, a kind of worse map a column: for how many maps of a method on a network the share of images in
    which the better one is preferred is above .5 by its interval, of how many."""
    kinds = list(dict.fromkeys(row.against for row in rows))
    table = [["measure", *kinds]]
    for measure in dict.fromkeys(row.measure for row in rows):
        cells = []
        for kind in kinds:
            mine = [row.share for row in rows if (row.measure, row.against) == (measure, kind)]
            lows = [share.low for share in mine if share.count >= FEWEST]
            cells.append(f"{sum(low > 0.5 for low in lows)} of {len(lows)}" if lows else NONE)
        table.append([measure.title, *cells])
    return table


def worth_table(rows: Sequence[Worth]) -> Table:
    """A measure and a kind of worse map a row, a method a column."""
    methods = list(dict.fromkeys(row.method for row in rows))
    table = [["network", "measure", "better map", *(f"`{method}`" for method in methods)]]
    cells: dict[tuple[str, str, str], dict[str, Estimate]] = {}
    for row in rows:
        cells.setdefault((row.network, row.measure.title, row.against), {})[row.method] = row.share
    for (network, measure, against), shares in cells.items():
        each = [f"{shown(shares[name])}, N = {shares[name].count}" if name in shares else NONE for name in methods]
        table.append([title(network), measure, against, *each])
    return table


def best_table(rows: Iterable[Best]) -> Table:
    """The best law and integrand of each network by each measure, that of `ssig`, and those not told apart from it."""
    table = [
        ["network", "measure", "best law and integrand", "mean", f"`{OWN}` (`{DEFAULT}`)", "N", "not told apart from"]
    ]
    for row in rows:
        level = listed([f"`{name}`" for name in row.level]) if row.level else "none"
        names = [title(row.network), row.measure.title, f"`{row.label}`"]
        means = [shown(row.estimate), shown(dict(row.order).get(OWN))]
        table.append([*names, *means, str(row.estimate.count), level])
    return table


def lead_table(rows: Iterable[Comparison]) -> Table:
    """The best variant and its hardest rival, of each network by each measure."""
    table = [["network", "measure", "best variant", "hardest rival", "variant ahead by", "N", "p, Holm"]]
    for row in rows:
        names = [title(row.network), row.measure.title, f"`{row.variant}`", f"`{row.rival}`"]
        table.append([*names, shown(row.estimate, sign=True), str(row.estimate.count), _p(row.p)])
    return table


def control_table(rows: Iterable[Comparison]) -> Table:
    """Where the best variant is not surely better than a control."""
    table = [["network", "measure", "best variant", "control", "variant ahead by", "N", "p, Holm"]]
    for row in rows:
        if row.sign <= 0 and np.isfinite(row.p):
            names = [title(row.network), row.measure.title, f"`{row.variant}`", f"`{row.rival}`"]
            table.append([*names, shown(row.estimate, sign=True), str(row.estimate.count), _p(row.p)])
    return table


def _p(value: float) -> str:
    if not np.isfinite(value):
        return NONE
    return number(value) if value >= LEAST_P else f"< {number(LEAST_P)}"


def _starred(row: Tested | None) -> str:
    """A difference with its interval, and a star where it is sure."""
    return NONE if row is None else shown(row.estimate, sign=True) + ("*" if row.sign else "")


def better_table(rows: Sequence[Rise], chosen: Sequence[str]) -> Table:
    """Some candidates minus `ssig`: a candidate and a network a row, a measure a column."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    table = [["candidate", "network", "N", *(measure.title for measure in measures)]]
    for name in chosen:
        for network in dict.fromkeys(row.network for row in rows if row.candidate == name):
            mine = {row.measure: row for row in rows if (row.candidate, row.network) == (name, network)}
            cells = [_starred(mine.get(measure)) for measure in measures]
            count = span(row.estimate.count for row in mine.values())
            table.append([f"`{name}`", title(network), count, *cells])
    return table


def against_noise_table(rows: Sequence[Against], network: str) -> Table:
    """A law and integrand a row, a measure a column: suppression minus noise."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    table = [["integrand", "law", "N", *(measure.title for measure in measures)]]
    cells: dict[tuple[str, str], dict[Measure, Against]] = {}
    for row in rows:
        if row.network == network:
            cells.setdefault((row.integrand, row.law), {})[row.measure] = row
    for integrand, law in sorted(cells):
        each = cells[integrand, law]
        count = span(row.estimate.count for row in each.values())
        table.append([integrand, law, count, *(_starred(each.get(measure)) for measure in measures)])
    return table


def reproduction_table(rows: Sequence[Reproduction]) -> Table:
    """A paper's numbers beside ours."""
    has_more = any(row.published.differs for row in rows)
    table = [["method", "measure", "published", "ours", "N", *(["also differs"] if has_more else [])]]
    for row in rows:
        is_from, ours = row.published, row.ours
        count = str(ours.count) if ours is not None else NONE
        printed = NONE if is_from.value is None else number(is_from.value)
        cells = [is_from.shown, is_from.measure, printed, shown(ours), count]
        table.append([*cells, *([is_from.differs] if has_more else [])])
    return table
