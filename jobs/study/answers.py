"""The questions of the study, each answered in one sentence: a verdict, its numbers with intervals, N and networks.

Intervals, N and single networks stand in brackets, so that the sentence without them is the answer in short.
"Yes" holds on every network that is measured; for "No" the contrary is sure on one of them. The rule is that which the
sentence names: "surely" by Holm over all comparisons of a network, or the interval of one comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.study import sentences
from jobs.study.against_noise import Against
from jobs.study.agreement import WEIGHTS, Agreement, Worth
from jobs.study.augmentation import DIFFERENCE, RIVALS, SIDES, SUPPRESSION, Augmentation, Level
from jobs.study.better import DEFAULT
from jobs.study.choices import QUALITIES, Best, Cost
from jobs.study.data import GAP
from jobs.study.design import VARIANTS
from jobs.study.equal_change import FADE, Contrast, by_law
from jobs.study.inference import Estimate, signs
from jobs.study.labels import named
from jobs.study.nearness import OVER_LAWS, Link
from jobs.study.published import title
from jobs.study.rivalry import Comparison, tally
from jobs.study.sentences import INTEGRAND_WORDS, OWN_LAW
from jobs.study.tables import Table
from jobs.study.words import are, listed, shown, span
from pipeline.report.numbers import number
from pipeline.report.statistics import FEWEST

UNMEASURED = "Not measured yet."
YES, NO, PART, OPEN, BY_GRADIENT = VERDICTS = ("Yes", "No", "In part", "Not shown", "Yes, by the gradient")
AS_WORDS = {"nearness": "the samples' nearness to their image"}
SECTIONS = 7  # the first so many answers have a section of the page each


@dataclass(frozen=True)
class Answer:
    """A question and the sentence that answers it.

    Attributes:
        more: what else belongs to the answer, in sentences; empty if nothing does.
    """

    question: str
    sentence: str
    more: str = ""

    @property
    def short(self) -> str:
        """The sentence without what stands in brackets, its verdict in bold, in Markdown."""
        text = re.sub(r" \([^()]*\)", "", self.sentence)
        verdict, colon, rest = text.partition(":")
        return f"**{verdict}**{colon}{rest}" if verdict in VERDICTS else text

    def section(self, number: int) -> str:
        """The address of the section of its number on the page."""
        words = "".join(letter for letter in self.question.lower() if letter.isalnum() or letter == " ")
        return f"#{number}-{words.replace(' ', '-')}"


def in_short(answers: Mapping[str, Any]) -> list[Answer]:
    """The seven questions in their order, then two that follow from them, from what their modules find."""
    return [
        Answer("Does suppression beat its rivals?", rivalry(answers["rivalry"], answers["leads"])),
        Answer("Are suppressed samples nearer to natural images than noisy ones?", nearness(answers["near"])),
        Answer(
            "Does nearness predict certainty, and certainty faithfulness?",
            links(answers["links"]),
            sentences.over_methods(answers["links"]),
        ),
        Answer("Does noise saturate the network, and suppression not?", saturation(answers["saturation"])),
        Answer(
            "Do rivals fail on networks that were trained with heavy augmentation?",
            augmentation(answers["augmentation"]),
            sentences.change_of_augmentation(answers["augmentation"]),
        ),
        Answer(
            "Which law, which integrand, at which cost?",
            choice(answers["best"], answers["costs"], answers["reached"]),
        ),
        Answer("Do the metrics agree, and what is each worth?", agreement(answers["agreements"], answers["worths"])),
        Answer("Is suppression better than noise with the same integrand?", noise(answers["noise"])),
        Answer(
            f"Is another law, integrand or cost better than `{DEFAULT}` everywhere?",
            sentences.default(answers["rises"]),
        ),
    ]


def short_table(answers: Sequence[Answer], page: str = "") -> Table:
    """All answers in short; each question leads to the section that has its numbers.

    Args:
        page: the address of the study's page, from where the table stands.
    """
    sections = [each.section(number) for number, each in enumerate(answers[:SECTIONS], 1)]
    sections += [sections[5], "#a-better-default"]  # laws beside noise are part of question 6
    rows = [
        [f"[{each.question}]({page}{section})", each.short] for each, section in zip(answers, sections, strict=True)
    ]
    return [["question", "answer in short"], *rows]


def rivalry(rows: Sequence[Comparison], leads: Sequence[Comparison]) -> str:
    """Question 1, by the gap: who wins and loses on how many networks, and the largest loss."""
    chosen = [row for row in leads if row.measure == GAP]
    if not chosen:
        return UNMEASURED
    networks = {row.network for row in chosen}
    totals = [[tally(rows, name, GAP.column, network) for name in VARIANTS] for network in networks]
    champions = sum(any(won > 0 == lost + level for won, lost, level in each) for each in totals)
    losing = sum(row.sign < 0 for row in chosen)
    verdict = NO if losing else YES if champions == len(networks) else OPEN
    worst = min(chosen, key=lambda row: row.estimate.mean)
    behind = worst.estimate.mean < 0
    first, second = (worst.rival, worst.variant) if behind else (worst.variant, worst.rival)
    return (
        f"{verdict}: by {GAP.title} the best variant surely loses to a rival on {losing} of {len(networks)} networks "
        f"and surely beats all its rivals on {champions} (on {title(worst.network)} `{first}` is "
        f"{shown(-worst.estimate if behind else worst.estimate)} ahead of `{second}`; N = "
        f"{span(row.estimate.count for row in chosen)})."
    )


def nearness(rows: Sequence[Contrast]) -> str:
    """Question 2, by the kernel distance."""
    own = own_law(rows, "kid")
    if not own:
        return UNMEASURED
    nearer, farther = (sum(row.sign == sign for row in own) for sign in (-1, 1))
    verdict = YES if nearer == len(own) else NO if farther else OPEN
    laws = signs((row for row in rows if row.quantity == "kid" and row.law != FADE), by_law)
    everywhere = sum(each == {-1} for each in laws.values())
    return (
        f"{verdict}: by kernel distance (KID), at equal change of the pixels, the samples of `{DEFAULT}` are surely "
        f"nearer than noisy ones on {nearer} and surely farther on {farther} of {len(own)} networks ({_each(own)}); "
        f"of {len(laws)} laws and strengths of suppression, {everywhere} {are(everywhere)} surely nearer on each."
    )


def links(rows: Sequence[Link]) -> str:
    """Question 3, over laws and strengths."""
    parts, every = [], list[int]()
    for pair in (("nearness", "certainty"), ("certainty", "faithfulness")):
        mine = [row for row in rows if row.over == OVER_LAWS and (row.first, row.second) == pair]
        mine = [row for row in mine if np.isfinite(row.estimate.low)]
        if mine:
            rising, falling = (sum(row.sign == sign for row in mine) for sign in (1, -1))
            every += [row.sign for row in mine]
            numbers = listed([f"{shown(row.estimate)} on {title(row.network)}" for row in mine])
            laws, images = span(row.estimate.count for row in mine), span(row.images for row in mine)
            falls = f" and falls on {falling}" if falling else ""
            parts.append(
                f"{pair[1]} rises with {AS_WORDS.get(pair[0], pair[0])} on {rising}{falls} of {len(mine)} networks "
                f"(rank correlation {numbers}; {laws} laws and strengths, N = {images})"
            )
    if not parts:
        return UNMEASURED
    verdict = YES if set(every) == {1} else PART if 1 in every else NO if -1 in every else OPEN
    return f"{verdict}: over laws of samples, {' and '.join(parts)}."


def saturation(rows: Sequence[Contrast]) -> str:
    """Question 4, by the gradient first."""
    own, probability = own_law(rows, "log_gradient"), own_law(rows, "probability")
    if not own:
        return UNMEASURED
    higher, lower = (sum(row.sign == sign for row in own) for sign in (1, -1))
    # Noise saturates where its gradients are below the image's own, and suppression does not where its are not.
    apart = all(row.level.sign >= 0 > row.of_noise.sign for row in own)
    verdict = (BY_GRADIENT if apart else PART) if higher == len(own) else NO if lower else OPEN
    each = [
        f"{_ratio(row.level)} under `{DEFAULT}` and {_ratio(row.of_noise)} under noise on {title(row.network)}"
        for row in own
    ]
    down, up = (sum(row.sign == sign for row in probability) for sign in (-1, 1))
    return (
        f"{verdict}: at equal change of the pixels the gradient is surely higher under `{DEFAULT}` than under noise "
        f"on {higher} of {len(own)} networks (over the image's own, {', '.join(each)}; N = "
        f"{span(row.estimate.count for row in own)}), and the target's probability is surely higher on {up} and "
        f"surely lower on {down} of {len(probability)}."
    )


def _ratio(logarithm: Estimate) -> str:
    """The geometric mean of ratios."""
    mean, low, high = np.exp([logarithm.mean, logarithm.low, logarithm.high])
    return shown(Estimate(mean, low, high, logarithm.count))


def augmentation(answer: Augmentation | None) -> str:
    """Question 5: rivals fail where they have nothing over random maps."""
    if answer is None:
        return UNMEASURED
    light = [
        f"{shown(row.estimate)} on {title(row.network)}"
        for row in answer.levels
        if row.group == RIVALS and not row.augmented
    ]
    heavy = {group: [row for row in answer.levels if row.group == group and row.augmented] for group in SIDES}
    rows = heavy[RIVALS]
    each = [f"{shown(row.estimate)} on {title(row.network)}" for row in rows]
    above = sum(row.estimate.sign > 0 for row in rows)
    return (
        f"{_of_augmentation(answer, heavy)}: where training has heavy augmentation, the mean of {rows[0].methods} "
        f"rivals is above random maps by {GAP.title} on {above} of {len(rows)} networks ({listed(each)}, against "
        f"{listed(light)} where augmentation is light; N = {rows[0].estimate.count})."
    )


def _of_augmentation(answer: Augmentation, heavy: Mapping[str, Sequence[Level]]) -> str:
    rivals, suppression = ([row.estimate for row in heavy[group]] for group in (RIVALS, SUPPRESSION))
    if all(each.sign <= 0 for each in rivals) and all(each.sign > 0 for each in suppression):
        return YES
    if answer.contrasts[RIVALS].sign < 0 and answer.contrasts[DIFFERENCE].sign > 0:
        return PART
    return NO if all(each.sign > 0 for each in rivals) else OPEN


def choice(rows: Sequence[Best], costs: Sequence[Cost], rivals: Mapping[str, Sequence[str]]) -> str:
    """Question 6, by the gap; with the rivals of one cost that reach the highest quality."""
    best = [
        f"{named(row.label)} on {title(row.network)} ({shown(row.estimate)}, N = {row.estimate.count}, not told apart "
        f"from {len(row.level)} of {len(row.order) - 1} others)"
        for row in rows
        if row.measure == GAP
    ]
    parts = [f"{GAP.title} has its highest mean with {listed(best)}"] if best else []
    others = sentences.reached(rivals)
    text = "; ".join([*parts, *cheapest(costs, QUALITIES[-1]), *([others] if others else [])])
    return f"{text[0].upper()}{text[1:]}." if text else UNMEASURED


def cheapest(costs: Sequence[Cost], quality: float) -> list[str]:
    """What reaches a mean gap with the fewest gradients, and where nothing does."""
    reaching, failing = dict[str, list[str]](), []
    for network in dict.fromkeys(row.network for row in costs):
        mine = [row for row in costs if row.network == network]
        reached = {row.method: least for row in mine if (least := row.least(quality))}
        size = f"N = {span(row.quality[0].count for row in mine)}"
        if reached:
            fewest = min(reached.values())
            methods = listed([f"`{name}`" for name, count in reached.items() if count == fewest])
            reaching.setdefault(methods, []).append(f"{title(network)} ({fewest}, {size})")
        else:
            failing.append(f"{title(network)} ({max(max(row.gradients) for row in mine)}, {size})")
    if not costs:
        return []
    count = len(dict.fromkeys(row.method for row in costs))
    counts = span({each for row in costs for each in row.gradients})
    which = f"of {count} {'methods' if count > 1 else 'method'} measured with {counts} gradients"
    each_of = listed([f"{methods} on {listed(places)}" for methods, places in reaching.items()])
    fewest_of = f"{which}, a mean of {number(quality)} takes the fewest gradients with {each_of}"
    parts = [fewest_of] if reaching else []
    return [*parts, f"nothing reaches {number(quality)} on {listed(failing)}"] if failing else parts


def agreement(rows: Sequence[Agreement], worths: Sequence[Worth]) -> str:
    """Question 7: the median rank correlations, and how many metrics tell true maps from permuted ones."""
    parts = []
    for same, words in (
        (True, "two metrics on one network"),
        (False, "two networks by one metric"),
    ):
        chosen = [row for row in rows if (row.first[0] == row.second[0]) is same and np.isfinite(row.estimate.mean)]
        if chosen:
            values = [row.estimate.mean for row in chosen]
            parts.append(
                f"that of {words} has the median {number(float(np.median(values)))} ({number(min(values))} to "
                f"{number(max(values))} over {len(chosen)} pairs; {span(row.estimate.count for row in chosen)} "
                f"methods, N = {span(row.images for row in chosen)})"
            )
    if not parts:
        return UNMEASURED
    within = [row.estimate for row in rows if row.first[0] == row.second[0] and np.isfinite(row.estimate.mean)]
    apart = [estimate for estimate in within if not estimate.low > 0]
    verdict = YES if not apart else NO if len(apart) == len(within) else PART
    text = f"{verdict}: of rank correlations over methods, {listed(parts)}"
    mine = [row for row in worths if row.against == WEIGHTS and row.share.count >= FEWEST]
    if mine:
        measures = {row.measure for row in mine}
        always = measures - {row.measure for row in mine if not row.share.low > 0.5}
        text += (
            f"; {len(always)} of {len(measures)} metrics prefer maps of the network to those of one with permuted "
            f"weights for each of {len({row.method for row in mine})} methods (in more than half of the images; N = "
            f"{span(row.share.count for row in mine)})"
        )
    return f"{text}."


def noise(rows: Sequence[Against]) -> str:
    """Question 6, by the gap: the laws that are better and worse than noise with the same integrand everywhere."""
    chosen = [row for row in rows if row.measure == GAP]
    parts = []
    for integrand, words in INTEGRAND_WORDS.items():
        laws = signs((row for row in chosen if row.integrand == integrand), lambda row: row.law)
        better, worse = ([f"`{law}`" for law, each in laws.items() if each == {sign}] for sign in (1, -1))
        if laws:
            parts.append(
                f"of {len(laws)} {'laws' if len(laws) > 1 else 'law'} of suppression with {words}, "
                f"{listed(better) if better else 'none'} "
                f"{are(max(len(better), 1))} surely better than noise and {listed(worse) if worse else 'none'} surely "
                "worse"
            )
    if not parts:
        return UNMEASURED
    networks = len({row.network for row in chosen})
    where = f"each of {networks} networks" if networks > 1 else title(chosen[0].network)
    return f"By {GAP.title} on {where}, {'; '.join(parts)} (N = {span(row.estimate.count for row in chosen)})."


def own_law(rows: Sequence[Contrast], quantity: str) -> list[Contrast]:
    """The law of the default method, on each network."""
    return [row for row in rows if row.quantity == quantity and (row.law, row.strength) == OWN_LAW]


def _each(rows: Sequence[Contrast]) -> str:
    numbers = ", ".join(f"{title(row.network)} {shown(row.estimate, sign=True)}" for row in rows)
    return f"{numbers}; N = {span(row.estimate.count for row in rows)}"
