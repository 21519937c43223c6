"""What a run shows, in plain sentences made from its numbers, and how far each number can be trusted.

The sentences say that the reference method loses as readily as that it wins. Where no method leads they say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.report import numbers
from pipeline.report.columns import Column
from pipeline.report.comparison import Comparison, Estimate, Grouping, Lead
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST

FEW = 100
CLAIM = 1000
SHOWN_REASONS = 6  # why no method leads; more stand in the table alone
_SPACE = "\N{NO-BREAK SPACE}"


def few(count: int) -> str:
    """The warning beside a number of `count` images; empty where they are enough."""
    return "too few" if count < FEWEST else "few" if count < FEW else ""


def cautions(columns: Sequence[Column], means: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """What the number of images behind each column allows one to say, one sentence for those that are alike."""
    fewest = {
        column.shown: min(counts)
        for column in columns
        if (counts := [row[column.name].count for row in means.values() if row[column.name].count])
    }
    levels: dict[str, dict[int, list[str]]] = {}
    for name, count in sorted(fewest.items(), key=lambda pair: pair[1]):
        if text := _caution(count):
            levels.setdefault(text, {}).setdefault(count, []).append(name)
    return [f"{_rests_on(level, len(fewest))}: {text}" for text, level in levels.items()]


def _caution(count: int) -> str:
    if count < FEWEST:
        return f"fewer than {FEWEST} images, so no verdict is given."
    if count < FEW:
        return f"too few images for conclusions (at least {FEW} recommended)."
    if count < CLAIM:
        return f"fewer than the {CLAIM:,} images that a claim about methods should rest on."
    return ""


def _rests_on(level: Mapping[int, Sequence[str]], columns: int) -> str:
    if columns > 1 and [len(names) for names in level.values()] == [columns]:
        return f"N = {next(iter(level)):,} for every metric"
    return "; ".join(f"N = {count:,} for {listed(names)}" for count, names in level.items())


def shortfalls(columns: Sequence[Column], means: Mapping[str, Mapping[str, Estimate]]) -> str:
    """For which columns intervals hold the mean less often than they promise, since the numbers are skewed."""
    coverages = {
        column.shown: [share for row in means.values() if (share := row[column.name].coverage) is not None]
        for column in columns
    }
    reached = {name: min(shares) for name, shares in coverages.items() if shares}
    if not reached:
        return ""
    shares_by_column = listed(f"{100 * share:.0f}{_SPACE}% for {name}" for name, share in reached.items())
    return (
        "Some columns are skewed, and the intervals of their means are too narrow. In simulations of numbers as "
        "skewed, of as many images, the interval held the true mean less often than the "
        f"{100 * CONFIDENCE:.0f}{_SPACE}% that it promises (the lowest of the methods): {shares_by_column}."
    )


def shortfall(estimate: Estimate) -> str:
    """The warning beside an interval of skewed numbers; empty beside others."""
    if estimate.coverage is None:
        return ""
    reached, promised = (f"{100 * share:.0f}{_SPACE}%" for share in (estimate.coverage, CONFIDENCE))
    return f" (skewed: such intervals held the mean in {reached} of simulations, not {promised})"


def summary(comparison: Comparison) -> str:
    """One paragraph: who leads which metric, on which no method leads and why, and how the reference compares."""
    leads = list(comparison.leads.values())
    if not leads:
        return "No two methods share a metric by which they can be compared, so there is nothing to compare."
    sentences = [text for method in comparison.methods if (text := _leading(method, leads))]
    open_ = [lead for lead in leads if lead.leader is None]
    if len(open_) == len(leads) > 1:
        sentences.append(f"No method leads on any of the {len(leads)} metrics ({_range(leads)}).")
    elif open_:
        sentences.append(f"No method leads on {_with_images(open_)}.")
    reasons = _reasons(open_)
    if len(reasons) <= SHOWN_REASONS:
        sentences += [f"On {listed(names)}, {reason}." for reason, names in reasons.items()]
    return " ".join([*sentences, standing(comparison)])


def standing(comparison: Comparison) -> str:
    """How the other methods compare with the reference."""
    judged = [difference.verdict for row in comparison.differences.values() for difference in row.values()]
    better, worse = judged.count("better"), judged.count("worse")
    if not comparison.verdicts:
        return f"No method could be tested against the reference method {comparison.reference}."
    return (
        f"Of {comparison.verdicts} comparisons with the reference method {comparison.reference}, the other method is "
        f"better in {better} and worse in {worse}; {comparison.verdicts - better - worse} are undecided."
    )


def correction(comparison: Comparison) -> str:
    """What stands behind the verdicts: the tests, and for how many comparisons they are corrected."""
    if not comparison.raced:
        return f"Nothing was tested: a verdict needs {FEWEST} images that two methods have in common."
    return (
        f"Tests: paired t on the images that both methods have, at {100 * ALPHA:.0f}{_SPACE}%. A method leads if it "
        f"beats each other one; corrected for {_many(comparison.raced, 'metric')} (Holm). Better or worse than "
        f"{comparison.reference}: corrected for {_many(comparison.verdicts, 'comparison')} (Holm). So of reports on "
        f"methods that do not differ, at most {100 * ALPHA:.0f}{_SPACE}% name a leader, and at most "
        f"{100 * ALPHA:.0f}{_SPACE}% call a method better or worse. No verdict below {FEWEST} images."
    )


def grouping_sentence(grouping: Grouping) -> str:
    """What a family's average ranks tell."""
    metrics = _many(len(grouping.columns), "metric")
    count = f"N = {grouping.count:,} images that have the {metrics} under all ranked methods"
    if grouping.p is None:
        return f"No grouping: {count}, and it needs {FEWEST}."
    p = f"Friedman, {_p_text(grouping.p)}"
    if grouping.p > ALPHA:
        return f"The methods are not told apart ({p}; {count})."
    groups = "; ".join(listed(group) for group in grouping.groups if len(group) > 1)
    apart = f"Not told apart: {groups}." if groups else "All methods are told apart."
    return (
        f"The methods differ ({p}; {count}). Average ranks that differ by more than "
        f"{numbers.number(grouping.critical_difference)} are told apart (Nemenyi). {apart}"
    )


def chance_alert(accuracy: Estimate, classes: int | None) -> str:
    """A sentence where the accuracy is not above chance by its interval; empty where it is, or nothing is known."""
    if accuracy.mean is None or accuracy.low is None or classes is None or classes < 2:
        return ""
    chance = 1 / classes
    if accuracy.low > chance:
        return ""
    compared = "no better than" if accuracy.mean <= chance else "not known to be better than"
    return (
        f"Top-1 accuracy is {numbers.percent(accuracy.mean)} {numbers.percent_interval(accuracy)} on "
        f"{_many(accuracy.count, 'image')}, {compared} chance ({_chance(chance)}): "
        "labels and network classes may not match."
    )


def classes_of(config: Mapping[str, Any]) -> int | None:
    """How many classes a recorded network has; None where that is not known."""
    classes = config.get("model", {}).get("classes")
    if isinstance(classes, int):
        return classes
    return len(config.get("categories", [])) or None


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _leading(method: str, leads: Sequence[Lead]) -> str:
    mine = [lead for lead in leads if lead.leader == method]
    if not mine:
        return ""
    return f"{method} leads on {_with_images(mine)}: it beats each other method on the images that both have."


def _with_images(leads: Sequence[Lead]) -> str:
    return listed(f"{lead.column.shown} ({_range([lead])})" for lead in leads)


def _range(leads: Sequence[Lead]) -> str:
    fewest, most = min(lead.fewest for lead in leads), max(lead.most for lead in leads)
    return f"N = {fewest:,}" if fewest == most else f"N = {fewest:,} to {most:,}"


def _reasons(leads: Sequence[Lead]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for lead in leads:
        reasons.setdefault(lead.reason, []).append(lead.column.shown)
    return reasons


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def _p_text(p: float) -> str:
    return f"p {numbers.p_value(p)}"


def _chance(chance: float) -> str:
    return f"{100 * chance:.2g} %"
