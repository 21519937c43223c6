"""The questions of the study, each answered in one sentence: a verdict, its numbers with intervals, N and networks.

"Yes" holds on every network that is measured; for "No" the contrary is sure on one of them. The rule is that which the
sentence names: "surely" by Holm over all comparisons of a network, or the interval of one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.study import sentences
from jobs.study.against_noise import Against
from jobs.study.agreement import WEIGHTS, Agreement, Worth
from jobs.study.augmentation import DIFFERENCE, GROUPS, RIVALS, SUPPRESSION, Augmentation, Level
from jobs.study.better import DEFAULT
from jobs.study.choices import BASE, QUALITIES, Best, Cost
from jobs.study.data import GAP
from jobs.study.design import VARIANTS
from jobs.study.equal_change import Contrast
from jobs.study.nearness import LAWS, Link
from jobs.study.published import title
from jobs.study.rivalry import Comparison, tally
from jobs.study.sentences import INTEGRAND_WORDS, OWN_LAW
from jobs.study.text import listed, shown, span
from pipeline.report.numbers import number

UNMEASURED = "Not measured yet."
YES, NO, PART, OPEN, BY_GRADIENT = VERDICTS = ("Yes", "No", "In part", "Not shown", "Yes, by the gradient")
SECTIONS = 7  # the first so many answers have a section of the page each


@dataclass(frozen=True)
class Answer:
    """A question and the sentence that answers it."""

    question: str
    sentence: str

    @property
    def emphasised(self) -> str:
        """The sentence with its verdict in bold, in Markdown."""
        verdict, colon, rest = self.sentence.partition(":")
        return f"**{verdict}**{colon}{rest}" if verdict in VERDICTS else self.sentence

    def anchor(self, number: int) -> str:
        """The question as a link to the section of its number on the page."""
        words = "".join(letter for letter in self.question.lower() if letter.isalnum() or letter == " ")
        return f"[{self.question}](#{number}-{words.replace(' ', '-')})"


def in_short(answers: Mapping[str, Any]) -> list[Answer]:
    """The seven questions in their order, then two that follow from them, from what their modules find."""
    return [
        Answer("Does suppression beat its rivals?", rivalry(answers["rivalry"], answers["leads"])),
        Answer("Are suppressed samples nearer to natural images than noisy ones?", nearness(answers["near"])),
        Answer("Does nearness predict certainty, and certainty faithfulness?", links(answers["links"])),
        Answer("Does noise saturate the network, and suppression not?", saturation(answers["saturation"])),
        Answer(
            "Do rivals fail on networks that were trained with heavy augmentation?",
            augmentation(answers["augmentation"]),
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
        f"and surely beats all of them on {champions} (N = {span(row.estimate.count for row in chosen)}); on "
        f"{title(worst.network)} `{first}` is {shown(-worst.estimate if behind else worst.estimate)} ahead of "
        f"`{second}`."
    )


def nearness(rows: Sequence[Contrast]) -> str:
    """Question 2, by the kernel distance."""
    own = own_law(rows, "kid")
    if not own:
        return UNMEASURED
    nearer, farther = (sum(row.sign == sign for row in own) for sign in (-1, 1))
    verdict = YES if nearer == len(own) else NO if farther else OPEN
    signs: dict[tuple[str, float], list[int]] = {}
    for row in rows:
        if row.quantity == "kid":
            signs.setdefault((row.law, row.strength), []).append(row.sign)
    everywhere = [setting for setting, each in signs.items() if set(each) == {-1}]
    return (
        f"{verdict}: by kernel distance, at equal change of the pixels, the samples of `{DEFAULT}` are surely nearer "
        f"than noisy ones on {nearer} and surely farther on {farther} of {len(own)} networks ({_each(own, True)}); "
        f"{len(everywhere)} of {len(signs)} laws and strengths are surely nearer on each of them{_named(everywhere)}."
    )


def _named(settings: Sequence[tuple[str, float]]) -> str:
    """Laws with their strengths, after a colon; nothing where there are none."""
    strengths: dict[str, list[float]] = {}
    for law, strength in settings:
        strengths.setdefault(law, []).append(strength)
    named = [f"`{law}` at {listed([f'{strength:g}' for strength in each])}" for law, each in strengths.items()]
    return f": {'; '.join(named)}" if named else ""


def links(rows: Sequence[Link]) -> str:
    """Question 3, over laws and strengths."""
    parts, every = [], list[int]()
    for pair in (("nearness", "certainty"), ("certainty", "faithfulness")):
        mine = [row for row in rows if row.over == LAWS and (row.first, row.second) == pair]
        mine = [row for row in mine if np.isfinite(row.estimate.low)]
        if mine:
            signs = [row.sign for row in mine]
            every += signs
            below = f" and below 0 on {signs.count(-1)}" if -1 in signs else ""
            numbers = ", ".join(f"{title(row.network)} {shown(row.estimate)}" for row in mine)
            parts.append(
                f"{' and '.join(pair)} is above 0 on {signs.count(1)}{below} of {len(mine)} networks ({numbers}; N = "
                f"{span(row.images for row in mine)})"
            )
    if not parts:
        return UNMEASURED
    verdict = YES if set(every) == {1} else PART if 1 in every else NO if -1 in every else OPEN
    return f"{verdict}: over laws and strengths the interval of the rank correlation of {', that of '.join(parts)}."


def saturation(rows: Sequence[Contrast]) -> str:
    """Question 4, by the gradient first."""
    own, probability = own_law(rows, "log_gradient"), own_law(rows, "probability")
    if not own:
        return UNMEASURED
    higher, lower = (sum(row.sign == sign for row in own) for sign in (1, -1))
    verdict = BY_GRADIENT if higher == len(own) else NO if lower else OPEN
    down, up = (sum(row.sign == sign for row in probability) for sign in (-1, 1))
    return (
        f"{verdict}: at equal change of the pixels the gradient under the law of `{DEFAULT}` is surely higher than "
        f"under noise on {higher} and surely lower on {lower} of {len(own)} networks (ln of the ratio: "
        f"{_each(own, True)}), and the target's probability surely higher on {up} and surely lower on {down}."
    )


def augmentation(answer: Augmentation | None) -> str:
    """Question 5: rivals fail where they have nothing over random maps."""
    if answer is None:
        return UNMEASURED
    light = listed([title(row.network) for row in answer.levels if row.group == RIVALS and not row.augmented])
    heavy = {group: [row for row in answer.levels if row.group == group and row.augmented] for group in GROUPS}
    each = [f"{shown(row.estimate)} on {title(row.network)}" for row in heavy[RIVALS]]
    difference = answer.contrasts[DIFFERENCE]
    return (
        f"{_of_augmentation(answer, heavy)}: with heavy augmentation rivals have {listed(each)} over random maps, by "
        f"{GAP.title}; from light augmentation ({light}) to heavy that changes by "
        f"{shown(answer.contrasts[RIVALS], sign=True)}, and what suppression has over rivals by "
        f"{shown(difference, sign=True)}; N = {difference.count}."
    )


def _of_augmentation(answer: Augmentation, heavy: Mapping[str, Sequence[Level]]) -> str:
    rivals, suppression = ([row.estimate for row in heavy[group]] for group in (RIVALS, SUPPRESSION))
    if all(each.sign <= 0 for each in rivals) and all(each.sign > 0 for each in suppression):
        return YES
    if answer.contrasts[RIVALS].sign < 0 and answer.contrasts[DIFFERENCE].sign > 0:
        return PART
    return NO if all(each.sign > 0 for each in rivals) else OPEN


def choice(rows: Sequence[Best], costs: Sequence[Cost], reached: Mapping[str, Sequence[str]]) -> str:
    """Question 6, by the gap.

    Args:
        reached: network -> the rivals that are at the highest quality with 32 gradients, of those without a curve.
    """
    best = [
        f"`{row.label}` on {title(row.network)} ({shown(row.estimate)}, N = {row.estimate.count}; not told apart from "
        f"{len(row.level)} of {len(row.order) - 1} others)"
        for row in rows
        if row.measure == GAP
    ]
    parts = [f"{GAP.title} has its highest mean with {listed(best)}"] if best else []
    text = "; ".join([*parts, *filter(None, [cost(costs, reached)])])
    return f"{text[0].upper()}{text[1:]}." if text else UNMEASURED


def cost(costs: Sequence[Cost], reached: Mapping[str, Sequence[str]]) -> str:
    """What reaches the highest quality with the fewest gradients, and who else is there; empty without a curve."""
    networks: dict[str, list[str]] = {}
    for network, names in reached.items():
        networks.setdefault(listed([f"`{name}`" for name in names]), []).append(title(network))
    beside = [f"{names} on {listed(each)}" for names, each in networks.items() if names]
    also = f"of rivals without a curve, {listed(beside)} reach it with {BASE} at most, on the same images"
    return "; ".join([*_cheapest(costs, QUALITIES[-1]), *([also] if beside else [])])


def _cheapest(costs: Sequence[Cost], quality: float) -> list[str]:
    """What reaches a mean gap with the fewest gradients, and where nothing does."""
    reaching, failing = [], []
    for network in dict.fromkeys(row.network for row in costs):
        mine = [row for row in costs if row.network == network]
        reached = {row.method: least for row in mine if (least := row.least(quality))}
        size = f"N = {mine[0].quality[0].count}"
        if reached:
            fewest = min(reached.values())
            methods = listed([f"`{name}`" for name, count in reached.items() if count == fewest])
            reaching.append(f"{methods} on {title(network)} ({fewest}, {size})")
        else:
            failing.append(f"{title(network)} ({max(max(row.gradients) for row in mine)}, {size})")
    count = len(dict.fromkeys(row.method for row in costs))
    counts = listed([str(each) for each in sorted({each for row in costs for each in row.gradients})])
    which = f"of {count} {'methods' if count > 1 else 'method'} measured with {counts} gradients"
    cheapest = f"{which}, a mean gap of {number(quality)} takes fewest with {listed(reaching)}"
    parts = [cheapest] if reaching else []
    return [*parts, f"nothing reaches {number(quality)} on {listed(failing)}"] if failing else parts


def agreement(rows: Sequence[Agreement], worths: Sequence[Worth]) -> str:
    """Question 7: the middle and the ends of the rank correlations, and of what tells true maps from permuted ones."""
    parts = []
    for same, words in (
        (True, "pairs of metrics, each on one network,"),
        (False, "pairs of networks, each by one metric,"),
    ):
        chosen = [row for row in rows if (row.first[0] == row.second[0]) is same and np.isfinite(row.estimate.mean)]
        if chosen:
            ordered = sorted(chosen, key=lambda row: row.estimate.mean)
            low, high = ordered[0], ordered[-1]
            parts.append(
                f"the median {number(float(np.median([row.estimate.mean for row in ordered])))} over {len(ordered)} "
                f"{words} ({shown(low.estimate)} to {shown(high.estimate)}, N = {span(row.images for row in ordered)})"
            )
    if not parts:
        return UNMEASURED
    within = [row.estimate for row in rows if row.first[0] == row.second[0] and np.isfinite(row.estimate.mean)]
    apart = [estimate for estimate in within if not estimate.low > 0]
    verdict = YES if not apart else NO if len(apart) == len(within) else PART
    text = f"{verdict}: the rank correlation over methods has {listed(parts)}"
    shares = sorted(
        (row.share for row in worths if row.against == WEIGHTS), key=lambda share: (share.mean, share.count)
    )
    if shares:
        text += (
            f"; metrics prefer a network's own map to that of a permuted one in {shown(shares[0])} to "
            f"{shown(shares[-1])} of the images (N = {span(share.count for share in shares)})"
        )
    return f"{text}."


def noise(rows: Sequence[Against]) -> str:
    """Part 4, by the gap: how many laws are better and worse than noise with the same integrand."""
    chosen = [row for row in rows if row.measure == GAP]
    parts = []
    for integrand, words in INTEGRAND_WORDS.items():
        mine = [row for row in chosen if row.integrand == integrand]
        each = []
        for network in dict.fromkeys(row.network for row in mine):
            signs = [row.sign for row in mine if row.network == network]
            each.append(f"{signs.count(1)} of {len(signs)} on {title(network)} ({signs.count(-1)} surely worse)")
        if each:
            parts.append(f"with {words} {listed(each)}")
    if not parts:
        return UNMEASURED
    size = f"N = {span(row.estimate.count for row in chosen)}"
    return f"Laws of suppression that are surely better than noise by {GAP.title}: {'; '.join(parts)}; {size}."


def own_law(rows: Sequence[Contrast], quantity: str) -> list[Contrast]:
    """The law of the default method, on each network."""
    return [row for row in rows if row.quantity == quantity and (row.law, row.strength) == OWN_LAW]


def _each(rows: Sequence[Contrast], sign: bool) -> str:
    numbers = ", ".join(f"{title(row.network)} {shown(row.estimate, sign=sign)}" for row in rows)
    return f"{numbers}; N = {span(row.estimate.count for row in rows)}"
