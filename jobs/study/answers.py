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
from jobs.study.augmentation import DIFFERENCE, RIVALS, SUPPRESSION, Augmentation
from jobs.study.better import DEFAULT
from jobs.study.choices import QUALITIES, Best, Cost
from jobs.study.data import GAP
from jobs.study.design import VARIANTS
from jobs.study.equal_change import Contrast
from jobs.study.nearness import LAWS, Link
from jobs.study.published import title
from jobs.study.rivalry import Comparison, tally
from jobs.study.sentences import OWN_LAW, READOUTS
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
        Answer("Which law, which readout, at which cost?", choice(answers["best"], answers["costs"])),
        Answer("Do the metrics agree, and what is each worth?", agreement(answers["agreements"], answers["worths"])),
        Answer("Is suppression better than noise that is read out alike?", noise(answers["noise"])),
        Answer(f"Is anything better than `{DEFAULT}` on every network?", sentences.default(answers["rises"])),
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
    own = _own(rows, "kid")
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
    own, probability = _own(rows, "log_gradient"), _own(rows, "probability")
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
    """Question 5."""
    if answer is None:
        return UNMEASURED
    difference = answer.contrasts[DIFFERENCE]
    verdict = YES if difference.low > 0 else NO if difference.high < 0 else OPEN
    augmented = {row.network: row.augmented for row in answer.levels}
    light, heavy = (listed([title(name) for name in augmented if augmented[name] is kind]) for kind in (False, True))
    return (
        f"{verdict}: from light augmentation ({light}) to heavy ({heavy}) what suppression has over rivals, by "
        f"{GAP.title}, changes by {shown(difference, sign=True)} (what it has over random maps by "
        f"{shown(answer.contrasts[SUPPRESSION], sign=True)}, what rivals have by "
        f"{shown(answer.contrasts[RIVALS], sign=True)}; N = {difference.count})."
    )


def choice(rows: Sequence[Best], costs: Sequence[Cost]) -> str:
    """Question 6, by the gap."""
    best = [
        f"`{row.label}` on {title(row.network)} ({shown(row.estimate)}, N = {row.estimate.count}; not told apart from "
        f"{len(row.level)} of {len(row.order) - 1} others)"
        for row in rows
        if row.measure == GAP
    ]
    parts = [f"{GAP.title} is highest with {listed(best)}"] if best else []
    text = "; ".join([*parts, *_cheapest(costs, QUALITIES[-1])])
    return f"{text[0].upper()}{text[1:]}." if text else UNMEASURED


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
    parts = [f"a mean of {number(quality)} takes fewest gradients with {listed(reaching)}"] if reaching else []
    return [*parts, f"nothing reaches {number(quality)} on {listed(failing)}"] if failing else parts


def agreement(rows: Sequence[Agreement], worths: Sequence[Worth]) -> str:
    """Question 7: the middle and the ends of the rank correlations, and of what tells true maps from permuted ones."""
    parts = []
    for same, words in ((True, "pairs of metrics on one network"), (False, "pairs of networks by one metric")):
        chosen = [row for row in rows if (row.first[0] == row.second[0]) is same and np.isfinite(row.estimate.mean)]
        if chosen:
            ordered = sorted(chosen, key=lambda row: row.estimate.mean)
            low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
            parts.append(
                f"{number(middle.estimate.mean)} in the middle of {len(ordered)} {words} ({shown(low.estimate)} to "
                f"{shown(high.estimate)}, N = {span(row.images for row in ordered)})"
            )
    if not parts:
        return UNMEASURED
    within = [row.estimate for row in rows if row.first[0] == row.second[0] and np.isfinite(row.estimate.mean)]
    apart = [estimate for estimate in within if not estimate.low > 0]
    verdict = YES if not apart else NO if len(apart) == len(within) else PART
    text = f"{verdict}: the rank correlation over methods is {listed(parts)}"
    shares = sorted((row.share for row in worths if row.against == WEIGHTS), key=lambda share: share.mean)
    if shares:
        text += (
            f"; metrics prefer a network's own map to that of a permuted one in {shown(shares[0])} to "
            f"{shown(shares[-1])} of the images (N = {span(share.count for share in shares)})"
        )
    return f"{text}."


def noise(rows: Sequence[Against]) -> str:
    """Part 4, by the gap: how many laws are better and worse than noise that is read out alike."""
    chosen = [row for row in rows if row.measure == GAP]
    parts = []
    for readout, words in READOUTS.items():
        mine = [row for row in chosen if row.readout == readout]
        each = []
        for network in dict.fromkeys(row.network for row in mine):
            signs = [row.sign for row in mine if row.network == network]
            each.append(f"{signs.count(1)} of {len(signs)} on {title(network)} ({signs.count(-1)} surely worse)")
        if each:
            parts.append(f"with {words} {listed(each)}")
    if not parts:
        return UNMEASURED
    size = f"N = {span(row.estimate.count for row in chosen)}"
    return f"By {GAP.title}, so many laws are surely better than noise: {'; '.join(parts)}; {size}."


def _own(rows: Sequence[Contrast], quantity: str) -> list[Contrast]:
    """The law of the default method, on each network."""
    return [row for row in rows if row.quantity == quantity and (row.law, row.strength) == OWN_LAW]


def _each(rows: Sequence[Contrast], sign: bool) -> str:
    numbers = ", ".join(f"{title(row.network)} {shown(row.estimate, sign=sign)}" for row in rows)
    return f"{numbers}; N = {span(row.estimate.count for row in rows)}"
