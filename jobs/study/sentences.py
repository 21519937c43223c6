"""The details of each answer, a point each: every number in them comes from the answers.

A sentence names what lost before what won. Verdicts hold for all comparisons of a network at once (Holm); the interval
beside a number is that of this comparison alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from jobs.study.against_noise import Against
from jobs.study.agreement import CONTROL, SAMPLES, WEIGHTS, Agreement, Worth
from jobs.study.augmentation import DIFFERENCE, Augmentation
from jobs.study.better import DEFAULT, FEWEST_NETWORKS, Rise, better, higher, judged
from jobs.study.choices import BASE, QUALITIES
from jobs.study.data import CORE, GAP, Study
from jobs.study.design import VARIANTS
from jobs.study.equal_change import FADE, NEARNESS, SATURATION, Contrast, by_law
from jobs.study.inference import signs
from jobs.study.nearness import OVER_METHODS, Link
from jobs.study.published import Reproduction, ordered_alike, title, within
from jobs.study.rivalry import FEWEST_OVER, OVER, Comparison, tally
from jobs.study.words import are, listed, shown, span
from pipeline.report.numbers import number
from pipeline.report.statistics import ALPHA

DELETION = next(measure for measure in CORE if measure.column == "deletion")
OWN_LAW = ("uniform", 1.0)  # the law of `ssig`, at its strength
INTEGRAND_WORDS = {"magnitude": "the integrand of `ssig`", "gradient": "the integrand of `ssig-signed`"}
POWER = 0.8
QUANTITIES = {**NEARNESS, **SATURATION}


def losses(rows: Sequence[Comparison]) -> list[str]:
    """By which measures a rival is surely ahead of the best variant."""
    parts = []
    for measure in dict.fromkeys(row.measure for row in rows):
        chosen = [row for row in rows if row.measure == measure]
        lost = [row for row in chosen if row.sign < 0]
        if lost:
            worst = min(lost, key=lambda row: row.estimate.mean)
            parts.append(
                f"By {worst.measure.title} on {len(lost)} of {len(chosen)} networks, by most on "
                f"{title(worst.network)}: `{worst.rival}` is {shown(-worst.estimate)} ahead of `{worst.variant}`, N = "
                f"{worst.estimate.count}."
            )
    return parts


def wins(rows: Sequence[Comparison]) -> str:
    """Where a variant is surely ahead of every rival, and the variant with most sure wins by deletion and the gap."""
    if not rows:
        return ""
    parts = []
    for measure in (DELETION, GAP):
        networks = list(dict.fromkeys(row.network for row in rows if row.measure == measure and row.network != OVER))
        won = {name: [tally(rows, name, measure.column, network) for network in networks] for name in VARIANTS}
        best = max(VARIANTS, key=lambda name: sum(count for count, _, _ in won[name]))
        if not any(count for count, _, _ in won[best]):
            continue
        over = of_rivals([(each[0], sum(each)) for each in won[best]], networks)
        parts.append(f"By {measure.title}, `{best}` has the most sure wins, summed over networks: over {over}.")
    return " ".join([_champions(rows), *parts])


def of_rivals(counts: Sequence[tuple[int, int]], networks: Sequence[str]) -> str:
    """How many of how many rivals, network by network; once where it is the same on each."""
    words = [f"{count} of {all_of}" for count, all_of in counts]
    if len(set(words)) == 1 < len(words):
        return f"{words[0]} rivals on each network"
    first, *others = [f"{text} {{}}on {title(network)}" for text, network in zip(words, networks, strict=True)]
    return listed([first.format("rivals "), *(text.format("") for text in others)])


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
        return "No variant is surely ahead of every rival, by any metric."
    return f"Surely ahead of every rival that was tested (how many: in brackets): {'; '.join(parts)}."


def rivalry(rows: Sequence[Comparison]) -> str:
    """Question 1: the variant that beats most rivals on the gap, and the rival that is hardest."""
    chosen = [row for row in rows if row.measure == GAP]
    networks = [name for name in dict.fromkeys(row.network for row in chosen) if name != OVER]
    # Over two networks the interval has one degree of freedom, and says nothing.
    places = [OVER] if len(networks) >= FEWEST_OVER else networks
    return " ".join(_rivalry(chosen, place) for place in places)


def _rivalry(chosen: Sequence[Comparison], place: str) -> str:
    totals = {name: tally(chosen, name, GAP.column, place) for name in VARIANTS}
    mine = {name: [row for row in chosen if (row.network, row.variant) == (place, name)] for name in VARIANTS}
    best = max(
        (name for name in VARIANTS if mine[name]),
        key=lambda name: (totals[name][0] - totals[name][1], np.mean([row.estimate.mean for row in mine[name]])),
    )
    won, lost, level = totals[best]
    hardest = min(mine[best], key=lambda row: row.estimate.mean)
    parts = [row for row in chosen if row.network != OVER and place in (OVER, row.network)]
    where = f"over {len({row.network for row in parts})} networks" if place == OVER else f"on {title(place)}"
    images = f"N = {span(row.estimate.count for row in parts)}"
    beside = f" over {hardest.estimate.count} networks" if place == OVER else ""  # not every rival is on all of them
    signs = Counter(row.estimate.sign for row in mine[best])
    behind = hardest.estimate.mean < 0
    words = ("behind", -hardest.estimate) if behind else ("ahead of", hardest.estimate)
    return (
        f"By insertion minus deletion {where} ({images}), `{best}` has the most sure wins less sure losses: it surely "
        f"beats {won} of {sum(totals[best])} rivals, surely loses to {lost} and is not told apart from {level}. It is "
        f"{words[0]} the hardest rival, `{hardest.rival}`, by {shown(words[1])}{beside}. By the intervals of single "
        f"comparisons it is behind {signs[-1]} and ahead of {signs[1]} rivals."
    )


def detectable(rows: Sequence[Comparison]) -> str:
    """How large a true difference of the gap must be for a sure verdict four times in five, network by network."""
    parts = []
    for network in dict.fromkeys(row.network for row in rows if row.network != OVER):
        tested = [row for row in rows if row.network == network and np.isfinite(row.p)]
        gaps = [row.estimate for row in tested if row.measure == GAP]
        # Holm's first step, at which the smallest p of all is judged.
        found = [
            each.error * (stats.t.ppf(1 - ALPHA / len(tested) / 2, each.count - 1) + stats.norm.ppf(POWER))
            for each in gaps
        ]
        if found:
            size = span(each.count for each in gaps)
            parts.append(f"{number(float(np.median(found)))} on {title(network)} (N = {size})")
    return (
        f"A true difference of the gap is surely found four times in five from about {listed(parts)}." if parts else ""
    )


def of_fewer(study: Study, names: Sequence[str]) -> str:
    """Which of some methods are measured on fewer images than the others, network by network; empty where none is."""
    parts = []
    for network in study.networks("core"):
        panel = study.panel("core", network)
        counts = panel.some(names).counts() if panel is not None else {}
        *fewer, most = sorted(set(counts.values())) or [0]
        each = [
            f"{count} images ({listed([f'`{name}`' for name in counts if counts[name] == count])})" for count in fewer
        ]
        if each:
            parts.append(f"On {title(network)} the curves are means over {listed([*each, f'{most} (all others)'])}.")
    return " ".join([*parts, "Differences in the tables are always of the same images."]) if parts else ""


def contrast(rows: Sequence[Contrast], lower: str, higher_: str) -> list[str]:
    """Questions 2 and 4: the law of the default method first, then all laws of suppression.

    Args:
        rows: contrasts with noise at equal change.
        lower, higher_: what a law is that has a lower, or a higher, number than noise.
    """
    words = {-1: f"{lower} than noise", 1: f"{higher_} than noise", 0: "not told apart from noise"}
    parts = []
    for network in dict.fromkeys(row.network for row in rows):
        mine = [row for row in rows if row.network == network]
        own = [row for row in mine if (row.law, row.strength) == OWN_LAW]
        if own:
            parts.append(_own_law(own, words))
        mine = [row for row in mine if row.law != FADE]
        tallies = []
        for quantity in dict.fromkeys(row.quantity for row in mine):
            counts = Counter(row.sign for row in mine if row.quantity == quantity)
            tallies.append(
                f"{counts[-1]} {are(counts[-1])} {lower} and {counts[1]} {higher_} by {QUANTITIES[quantity]}"
            )
        laws = len(set(map(by_law, mine)))
        parts.append(f"Of {laws} laws and strengths of suppression on {title(network)}, {listed(tallies)}.")
    return parts


def nearer_everywhere(rows: Sequence[Contrast]) -> str:
    """Question 2: the laws and strengths that are surely nearer than noise by kernel distance on every network."""
    found = signs((row for row in rows if row.quantity == "kid"), by_law)
    strengths: dict[str, list[float]] = {}
    for (law, strength), each in found.items():
        if each == {-1}:
            strengths.setdefault(law, []).append(strength)
    named = [f"`{law}` at {listed([f'{strength:g}' for strength in each])}" for law, each in strengths.items()]
    if not found:
        return ""
    networks = len({row.network for row in rows})
    where = f"each of {networks} networks" if networks > 1 else title(rows[0].network)
    if not named:
        return f"No law at any strength is surely nearer by kernel distance on {where}."
    return f"Surely nearer by kernel distance on {where}: {'; '.join(named)}."


def change_of_augmentation(answer: Augmentation | None) -> str:
    """Question 5: what changes from light augmentation to heavy."""
    if answer is None:
        return ""
    each = listed([f"{shown(estimate, sign=True)} for {group}" for group, estimate in answer.contrasts.items()])
    size = answer.contrasts[DIFFERENCE].count
    return (
        f"From light augmentation to heavy, what a group has over random maps changes by {each} (N = {size}). The "
        "networks differ in architecture too, so this shows no cause."
    )


def reached(names: Mapping[str, Sequence[str]]) -> str:
    """Question 6: the rivals without a curve over gradients that are at the highest quality; empty without any.

    A part of a sentence.
    """
    networks: dict[str, list[str]] = {}
    for network, each in names.items():
        networks.setdefault(listed([f"`{name}`" for name in each]), []).append(title(network))
    parts = [f"{each} on {listed(places)}" for each, places in networks.items() if each]
    if not parts:
        return ""
    return (
        f"of rivals measured with one number of gradients only, {listed(parts)} reach {number(QUALITIES[-1])} with "
        f"{BASE} gradients at most (on the same images)"
    )


def _own_law(rows: Sequence[Contrast], words: Mapping[int, str]) -> str:
    texts = []
    for sign in dict.fromkeys(row.sign for row in rows):
        by = [f"{QUANTITIES[row.quantity]} ({shown(row.estimate, sign=True)})" for row in rows if row.sign == sign]
        texts.append(f"{words[sign]} by {listed(by)}")
    size = min(row.estimate.count for row in rows)
    return f"On {title(rows[0].network)} (N = {size}) the law of `{DEFAULT}` is {listed(texts)}."


def over_methods(rows: Sequence[Link]) -> str:
    """Question 3: on how many networks the interval of each rank correlation over methods leaves out 0; empty where
    there is none."""
    rows = [row for row in rows if row.over == OVER_METHODS and np.isfinite(row.estimate.low)]
    parts = []
    for first, second in dict.fromkeys((row.first, row.second) for row in rows):
        mine = [row for row in rows if (row.first, row.second) == (first, second)]
        signs = Counter(row.sign for row in mine)
        below = f" and below 0 on {signs[-1]}" if signs[-1] else ""
        size = f"N = {span(row.images for row in mine)}"
        parts.append(f"of {first} and {second} is above 0 on {signs[1]}{below} of {len(mine)} networks ({size})")
    return f"Over methods, the interval of the rank correlation {', that '.join(parts)}." if parts else ""


def noise(rows: Sequence[Against]) -> list[str]:
    """Question 6: whether suppression is better than noise with the same integrand, magnitudes first."""
    parts = []
    for network in dict.fromkeys(row.network for row in rows):
        for integrand, words in INTEGRAND_WORDS.items():
            mine = [row for row in rows if (row.network, row.integrand) == (network, integrand)]
            if mine:
                size, laws = span(row.estimate.count for row in mine), len({row.law for row in mine})
                parts.append(
                    f"With {words}, of {laws} laws of suppression on {title(network)} (N = {size}) "
                    f"{_how_many(mine, -1, 'worse')}, and {_how_many(mine, 1, 'better')}."
                )
    return parts


def _how_many(rows: Sequence[Against], sign: int, word: str) -> str:
    """How many laws are worse, or better, than noise by each measure."""
    counts = Counter(row.measure.title for row in rows if row.sign == sign)
    present = [(measure, counts[measure]) for measure in dict.fromkeys(row.measure.title for row in rows)]
    present = [(measure, count) for measure, count in present if count]
    if not present:
        return f"none is {word} than noise by any metric"
    (first, count), *others = present
    start = f"{count} {are(count)} {word} than noise by {first}"
    return listed([start, *(f"{count} by {measure}" for measure, count in others)])


def agreement(rows: Sequence[Agreement], worths: Sequence[Worth]) -> list[str]:
    """Question 7: what agrees least and most, and what prefers each kind of better map least and most often."""
    finite = [row for row in rows if np.isfinite(row.estimate.mean)]
    parts = []
    for same, words in ((True, "two metrics on one network"), (False, "one metric on two networks")):
        chosen = [row for row in finite if (row.first[0] == row.second[0]) is same]
        if chosen:
            ordered = sorted(chosen, key=lambda row: row.estimate.mean)
            median = number(float(np.median([row.estimate.mean for row in ordered])))
            parts.append(
                f"The rank correlation over methods of {words} has the median {median} over {len(ordered)} pairs, "
                f"from {_pair(ordered[0])} to {_pair(ordered[-1])}."
            )
    for against in (WEIGHTS, SAMPLES, CONTROL):
        each = [row for row in worths if row.against == against]
        if each:
            low, high = (end(each, key=lambda row: (row.share.mean, row.share.count)) for end in (min, max))
            parts.append(
                f"For “{against}”, {_worth(low)} prefers the better map least often, and {_worth(high)} most often."
            )
    return parts


def _pair(row: Agreement) -> str:
    (first, measure), (second, other) = row.first, row.second
    names = f"{measure.title} and {other.title} on {title(first)}"
    if first != second:
        names = f"{measure.title} on {title(first)} and {title(second)}"
    return f"{shown(row.estimate)} ({names}, {row.estimate.count} methods, N = {row.images})"


def _worth(row: Worth) -> str:
    where = f"`{row.method}`, {title(row.network)}"
    return f"{row.measure.title} (share {shown(row.share)} of {row.share.count} images, {where})"


def default(rows: Sequence[Rise]) -> str:
    """Whether another law, integrand or cost of suppression is better than `ssig` on every network."""
    candidates = judged(rows)
    if len({row.network for row in rows}) < FEWEST_NETWORKS:
        return f"None so far: no two networks have a law, integrand or cost beside `{DEFAULT}`."
    sizes = Counter(len({row.network for row in rows if row.candidate == name}) for name in candidates)
    parts = [f"{sizes[size]} on {size}" for size in sorted(sizes)]
    where = f"{len(candidates)} laws, integrands and costs ({listed(parts)} networks)"
    found, only = better(rows), higher(rows)
    text = f"None so far, of {where}."
    if found:
        first = [row for row in rows if row.candidate == found[0] and row.measure == GAP]
        each = [f"{shown(row.estimate, True)} on {title(row.network)} (N = {row.estimate.count})" for row in first]
        text = f"{len(found)} of {where} {are(len(found))} better, `{found[0]}` by most: {listed(each)}."
    if only:
        which = f"{len(only)} more" if found else f"{len(only)} of them"
        lower = Counter(measure for name in only for measure in _lower(rows, name))
        parts = [
            f"{'all' if count == len(only) else count} of these surely lower {measure} on some network"
            for measure, count in sorted(lower.items())
        ]
        text += f" With {which}, {GAP.title} is surely higher on every network measured, but {listed(parts)}."
    if not found:
        text += _widest(rows, [name for name in candidates if name not in only])
    return text


def _lower(rows: Sequence[Rise], candidate: str) -> set[str]:
    """What is surely lower with a candidate on some network."""
    return {row.measure.title for row in rows if row.candidate == candidate and row.sign < 0}


def _widest(rows: Sequence[Rise], candidates: Sequence[str]) -> str:
    """The candidates whose gap is surely higher on most networks, and what they lose; alike ones together."""
    wins = {
        name: sum(row.sign > 0 for row in rows if row.candidate == name and row.measure == GAP) for name in candidates
    }
    most = max(wins.values(), default=0)
    tails: dict[str, list[str]] = {}
    for name in wins if most else ():
        mine = [row for row in rows if row.candidate == name]
        if wins[name] == most:
            lower = Counter(row.measure.title for row in mine if row.measure != GAP and row.sign < 0)
            lost = [f"{measure} surely lower on {count}" for measure, count in lower.items()]
            gap = f"surely higher on {most} of {len({row.network for row in mine})} networks"
            tails.setdefault(listed([gap, *lost]), []).append(f"`{name}`")
    return "".join(f" With {listed(names)}, {GAP.title} is {tail}." for tail, names in tails.items())


def reproduction(rows: Sequence[Reproduction]) -> str:
    """How far the published numbers are met; empty where none is measured again."""
    measured = [row for row in rows if row.ours is not None and row.published.value is not None]
    if not measured:
        return ""
    alike, pairs = ordered_alike(measured)
    order = f" Of {pairs} pairs of methods, {alike} have the published order." if pairs else ""
    return f"Of {len(measured)} published numbers, {within(measured)} lie within our interval.{order}"
