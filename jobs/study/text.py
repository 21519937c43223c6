"""The sentences and tables of the study's page: every number in them comes from the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from jobs.study.agreement import CONTROL, SAMPLES, Agreement, Worth
from jobs.study.augmentation import DIFFERENCE, RIVALS, SUPPRESSION, Augmentation
from jobs.study.choices import QUALITIES, Best, Cost
from jobs.study.data import GAP, GROUPS, MEASURES, Study
from jobs.study.design import FAMILIES, LAWS, VARIANTS
from jobs.study.equal_change import NEARNESS, SATURATION, Contrast
from jobs.study.inference import Estimate, mean_of, share_of
from jobs.study.nearness import Link
from jobs.study.published import Reproduction, title
from jobs.study.rivalry import OVER, Comparison, tally
from pipeline.report.numbers import NONE, number, signed

UNMEASURED = "Not measured yet."
Table = list[list[str]]


def shown(estimate: Estimate | None, sign: bool = False) -> str:
    """A number with its interval."""
    if estimate is None or not np.isfinite(estimate.mean):
        return NONE
    text = signed(estimate.mean) if sign else number(estimate.mean)
    if not np.isfinite(estimate.low):
        return text
    return f"{text} [{number(estimate.low)}, {number(estimate.high)}]"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def coverage(study: Study) -> Table:
    """How many images and methods each network has in each group of metrics."""
    groups = list(dict.fromkeys(record["metrics"] for _, record in study.blocks))
    rows = [["network", *groups]]
    networks = dict.fromkeys(name for group in groups for name in study.networks(group))
    for network in networks:
        cells = []
        for group in groups:
            panel = study.panel(group, network)
            images = [record["images"] for _, record in study.of(LAWS, network)] if group == LAWS else []
            if panel is not None:
                cells.append(f"{len(panel.images)} images, {len(panel.methods)} methods")
            else:
                cells.append(f"{images[0]} images" if images else NONE)
        rows.append([title(network), *cells])
    return rows


def rivalry_sentence(rows: Sequence[Comparison]) -> str:
    """The answer to question 1."""
    if not rows:
        return UNMEASURED
    parts = []
    for network in dict.fromkeys(row.network for row in rows):
        totals = {name: tally(rows, name, GAP.column, network) for name in VARIANTS}
        measured = {name: each for name, each in totals.items() if sum(each)}
        if not measured:
            continue
        best = max(measured, key=lambda name: (measured[name][0] - measured[name][1], measured[name][0]))
        won, lost, _ = measured[best]
        place = "Over networks" if network == OVER else f"On {title(network)}"
        text = f"{place} `{best}` beats {won} of {sum(measured[best])} rivals on insertion minus deletion"
        losses = {name: each[1] for name, each in measured.items() if each[1]}
        text += f" and loses to {lost}" if lost else " and loses to none"
        others = [f"`{name}` loses to {count}" for name, count in losses.items() if name != best]
        parts.append(text + (f"; {listed(others)}" if others else "") + ".")
    return " ".join(parts)


def rivalry_table(rows: Sequence[Comparison], network: str) -> Table:
    """A variant a row and a measure a column: won, lost, open."""
    measures = [
        measure
        for group in GROUPS.values()
        for measure in group
        if any(row.measure == measure and row.network == network for row in rows)
    ]
    heads = []
    for measure in measures:
        sizes = [row.estimate.count for row in rows if row.measure == measure and row.network == network]
        heads.append(f"{measure.title}, {'networks' if network == OVER else 'N'} = {max(sizes)}")
    table = [["variant", *heads]]
    for variant in VARIANTS:
        counts = [tally(rows, variant, measure.column, network) for measure in measures]
        if any(map(sum, counts)):
            table.append([f"`{variant}`", *("–".join(map(str, each)) for each in counts)])
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
    table = [["method", *(f"{measure.title} {'↑' if measure.better > 0 else '↓'}" for measure in measures)]]
    for name in order:
        cells = [f"{shown(each)}, N = {each.count}" if each.count else NONE for each in means[name]]
        table.append([f"`{name}`", *cells])
    return table


def _mean(values: np.ndarray, share: bool) -> Estimate:
    return share_of(values) if share else mean_of(values)


def losses_table(rows: Iterable[Comparison]) -> Table:
    """Each rival that surely beats a variant on the gap, network by network."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.measure == GAP and row.verdict < 0:
            text = f"`{row.rival}` {shown(row.estimate, sign=True)}"
            found.setdefault((row.network, row.variant), []).append(text)
    table = [["network", "variant", "loses to (difference, interval)"]]
    return [*table, *([title(network), f"`{variant}`", "; ".join(each)] for (network, variant), each in found.items())]


def over_table(rows: Iterable[Comparison]) -> Table:
    """The gap over networks: the interval of Hartung and Knapp, and that of images drawn jointly."""
    table = [["variant", "rival", "networks", "difference", "images drawn jointly", "p, Holm"]]
    for row in rows:
        if row.network == OVER and row.measure == GAP:
            p = number(row.p) if np.isfinite(row.p) else NONE
            estimate = row.estimate
            table.append(
                [f"`{row.variant}`", f"`{row.rival}`", str(estimate.count), shown(estimate), shown(row.joint), p]
            )
    return table


def contrast_sentence(rows: Sequence[Contrast], lower: str, higher: str) -> str:
    """The answer to question 2 or 4: of each quantity, how often suppression is lower, higher, or not told apart.

    Args:
        rows: contrasts with noise at equal change.
        lower, higher: what is said of them.
    """
    if not rows:
        return UNMEASURED
    words = {**NEARNESS, **SATURATION}
    parts = []
    for network in dict.fromkeys(row.network for row in rows):
        texts = []
        for quantity in dict.fromkeys(row.quantity for row in rows):
            signs = Counter(row.sign for row in rows if (row.network, row.quantity) == (network, quantity))
            total = sum(signs.values())
            texts.append(f"{words[quantity]}: {signs[-1]} of {total} {lower}, {signs[1]} {higher}")
        parts.append(f"On {title(network)}, of laws and strengths against noise at equal change, {'; '.join(texts)}.")
    return " ".join(parts)


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
        values = [shown(row.estimate, sign=True) + ("*" if row.sign else "") for row in each]
        table.append([law, f"{strength:g}", number(each[0].change), str(each[0].estimate.count), *values])
    return table


def link_sentence(rows: Sequence[Link]) -> str:
    """The answer to question 3."""
    if not rows:
        return UNMEASURED
    words = {1: "yes", -1: "the reverse", 0: "not shown"}
    parts = []
    for network in dict.fromkeys(row.network for row in rows):
        texts = [
            f"{row.first} and {row.second} over {row.over} {shown(row.estimate)} ({words[row.sign]})"
            for row in rows
            if row.network == network
        ]
        parts.append(f"On {title(network)} the rank correlations are: {'; '.join(texts)}.")
    return " ".join(parts)


def link_table(rows: Iterable[Link]) -> Table:
    table = [["network", "of", "and", "over", "N", "rank correlation"]]
    return [
        *table,
        *([title(x.network), x.first, x.second, x.over, str(x.estimate.count), shown(x.estimate)] for x in rows),
    ]


def augmentation_sentence(answer: Augmentation | None) -> str:
    """The answer to question 5."""
    if answer is None:
        return UNMEASURED
    contrast = answer.contrasts[DIFFERENCE]
    verdict = "grows" if contrast.low > 0 else "shrinks" if contrast.high < 0 else "is not shown to change"
    return (
        f"From light to heavy augmentation the gap over random maps changes by "
        f"{shown(answer.contrasts[SUPPRESSION], sign=True)} for suppression and by "
        f"{shown(answer.contrasts[RIVALS], sign=True)} for rivals (N = {contrast.count} images); what suppression has "
        f"over rivals {verdict}: {shown(contrast, sign=True)}."
    )


def augmentation_table(answer: Augmentation | None) -> Table:
    table = [["network", "augmentation", "methods", "gap over random maps", "N"]]
    for level in answer.levels if answer is not None else ():
        kind = "heavy" if level.augmented else "light"
        count = str(level.estimate.count)
        table.append([title(level.network), kind, level.group, shown(level.estimate), count])
    return table


def choice_sentence(rows: Sequence[Best], costs: Sequence[Cost]) -> str:
    """The answer to question 6."""
    if not rows and not costs:
        return UNMEASURED
    parts = [
        f"On {title(row.network)} the best law and readout by {row.measure.title} is `{row.label}` "
        f"({shown(row.estimate)}, N = {row.estimate.count}), not told apart from "
        f"{listed([f'`{name}`' for name in row.level]) if row.level else 'none'}."
        for row in rows
    ]
    quality = QUALITIES[-1]
    for network in dict.fromkeys(row.network for row in costs):
        reached = {row.method: least for row in costs if row.network == network and (least := row.least(quality))}
        if reached:
            cheapest = min(reached.values())
            methods = [f"`{name}`" for name, least in reached.items() if least == cheapest]
            text = f"with {cheapest} gradients by {listed(methods)}"
        else:
            text = "by no method with 256 gradients"
        parts.append(f"On {title(network)} a gap of {number(quality)} is reached {text}.")
    return " ".join(parts)


def cost_table(rows: Sequence[Cost]) -> Table:
    """The fewest gradients that reach each quality."""
    table = [["network", "method", "N", *(f"gap {number(quality)}" for quality in QUALITIES)]]
    for row in rows:
        least = [row.least(quality) for quality in QUALITIES]
        cells = [str(count) if count is not None else NONE for count in least]
        table.append([title(row.network), f"`{row.method}`", str(row.quality[0].count), *cells])
    return table


def agreement_sentence(rows: Sequence[Agreement], worths: Sequence[Worth]) -> str:
    """The answer to question 7."""
    within = [row.estimate.mean for row in rows if row.first[0] == row.second[0] and np.isfinite(row.estimate.mean)]
    between = [row.estimate.mean for row in rows if row.first[0] != row.second[0] and np.isfinite(row.estimate.mean)]
    parts = []
    for values, words in ((within, "two measures on one network"), (between, "one measure on two networks")):
        if values:
            low, middle, high = np.percentile(values, [0, 50, 100])
            parts.append(
                f"The rank correlation over methods of {words} has the median {number(float(middle))} and lies "
                f"between {number(float(low))} and {number(float(high))} ({len(values)} pairs)."
            )
    for against in (SAMPLES, CONTROL):
        chosen = [row for row in worths if row.against == against]
        if chosen:
            best = max(chosen, key=lambda row: row.effect)
            worst = min(chosen, key=lambda row: row.effect)
            parts.append(
                f"The {against} is told best by {best.measure.title} ({number(best.effect)} standard deviations, "
                f"{title(best.network)}) and worst by {worst.measure.title} ({number(worst.effect)}, "
                f"{title(worst.network)})."
            )
    return " ".join(parts) or UNMEASURED


def between_table(rows: Iterable[Agreement]) -> Table:
    """One measure on two networks."""
    table = [["measure", "networks", "methods", "rank correlation"]]
    for row in rows:
        if row.first[0] != row.second[0] and np.isfinite(row.estimate.mean):
            networks = f"{title(row.first[0])}, {title(row.second[0])}"
            table.append([row.first[1].title, networks, str(row.estimate.count), shown(row.estimate)])
    return table


def worth_table(rows: Iterable[Worth]) -> Table:
    table = [["network", "measure", "better map", "methods", "N", "share of images", "effect"]]
    for row in rows:
        names = [title(row.network), row.measure.title, row.against, str(row.methods)]
        table.append([*names, str(row.share.count), shown(row.share), number(row.effect)])
    return table


def reproduction_table(rows: Iterable[Reproduction]) -> Table:
    table = [["paper", "method", "measure", "published", "ours", "N", "network", "what differs"]]
    for row in rows:
        is_from, ours = row.published, row.ours
        count = NONE if ours is None else str(ours.count)
        names = [is_from.paper, is_from.shown, is_from.measure, number(is_from.value), shown(ours), count]
        table.append([*names, title(is_from.network), is_from.differs])
    return table


def open_points(study: Study) -> list[str]:
    """What the data do not say yet."""
    points = []
    present = set(study.networks("core"))
    lacking = [title(name) for name in FAMILIES if name not in present]
    if lacking:
        points.append(f"Nothing is measured on {listed(lacking)}.")
    refused = Counter((title(record["network"]), label) for _, record in study.blocks for label in record["refused"])
    for network in dict.fromkeys(name for name, _ in refused):
        labels = sorted(f"`{label}`" for name, label in refused if name == network)
        points.append(f"{network} cannot run {listed(labels)}.")
    points.append("Maps of a network with permuted layers are not measured as known-worse maps in question 7.")
    points.append("Architecture and augmentation go together in question 5: it describes, and does not decide.")
    return points


def provenance(study: Study) -> Table:
    """How each file was measured."""
    table = [["file", "N", "commits", "machine", "hours"]]
    for path, (_, record) in zip(study.files, study.blocks, strict=True):
        each = record["measured"]
        machines = dict.fromkeys(f"{one['machine']['cpu']}, {one['machine']['cores']} cores" for one in each)
        commits = dict.fromkeys(str(one["commit"]) for one in each)
        spent = sum(one["seconds"] for one in each) / 3600
        name = f"{path.parent.name}/{path.name}"
        table.append([name, str(record["images"]), ", ".join(commits), "; ".join(machines), f"{spent:.2f}"])
    return table
