"""The verdict of a run: one sentence that says who leads and by how much, or that no method does.

It says what the tests allow and no more: a method leads a metric if `Lead.leader` names it. Methods stand in the
user's order.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import numbers
from pipeline.report.comparison import Comparison, Lead
from pipeline.report.findings import few, listed
from pipeline.report.statistics import CONFIDENCE, FEWEST

IN_FULL = 2  # leads that are told with their interval each; of more, each method's least sure one is
SHOWN_METHODS = 3
_SPACE = "\N{NO-BREAK SPACE}"


def verdict(comparison: Comparison) -> str:
    """One sentence: who leads which metric, with the difference to the nearest rival, its interval and its N."""
    leads = list(comparison.leads.values())
    if len(comparison.methods) == 1:
        return f"No verdict: {comparison.methods[0]} is the only method, so there is nothing to compare it with."
    if not leads:
        return "No verdict: no two methods share a metric by which they can be compared."
    if not comparison.raced:
        most = max(lead.most for lead in leads)
        return f"No verdict: it takes {FEWEST} images that two methods share, and no two share more than {most}."
    led = {method: [lead for lead in leads if lead.leader == method] for method in comparison.methods}
    led = {method: ahead for method, ahead in led.items() if ahead}
    if not led:
        return _nobody(leads)
    in_full = sum(map(len, led.values())) <= IN_FULL
    clauses = [_leading(method, ahead, len(leads), in_full=in_full) for method, ahead in led.items()]
    if len(clauses) > SHOWN_METHODS:
        more = len(clauses) - SHOWN_METHODS
        clauses = [*clauses[:SHOWN_METHODS], f"{more} more {'lead' if more > 1 else 'leads'} on other metrics"]
    return "; ".join([*clauses, *_undecided([lead for lead in leads if lead.leader is None])]) + "."


def images(leads: Sequence[Lead]) -> str:
    """The N of comparisons: the fewest and the most images that two methods have in common, with a warning."""
    fewest, most = min(lead.fewest for lead in leads), max(lead.most for lead in leads)
    count = f"N = {fewest:,}" if fewest == most else f"N = {fewest:,} to {most:,}"
    return _warned(count, fewest)


def _nobody(leads: Sequence[Lead]) -> str:
    if len(leads) > 1:
        return f"No method leads on any of the {len(leads)} metrics ({images(leads)})."
    (lead,) = leads
    if lead.ahead is None:
        return f"No method leads on {lead.column.shown} ({images(leads)}): {lead.reason}."
    return f"No method leads on {_metric(lead)}: {lead.ahead} is ahead, {_by(lead)}."


def _leading(method: str, leads: Sequence[Lead], metrics: int, *, in_full: bool) -> str:
    """What one method leads, as a part of the sentence."""
    if in_full or len(leads) == 1:
        return f"{method} leads on {listed(f'{_metric(lead)}, {_by(lead)}' for lead in leads)}"
    least_sure = max(leads, key=lambda lead: lead.p or 0.0)
    return (
        f"{method} leads on {len(leads)} of {metrics} metrics ({images(leads)}), least surely on "
        f"{_metric(least_sure)}, {_by(least_sure)}"
    )


def _undecided(leads: Sequence[Lead]) -> list[str]:
    """On what no method leads, as a part of the sentence; none where some method leads on each metric."""
    if not leads:
        return []
    return [f"no method leads on {leads[0].column.shown if len(leads) == 1 else f'the other {len(leads)} metrics'}"]


def _metric(lead: Lead) -> str:
    return lead.column.shown + (" (lower is better)" if lead.column.direction == "lower" else "")


def _by(lead: Lead) -> str:
    """The paired difference of the method ahead to its nearest rival, with its interval and N."""
    difference = lead.difference
    if difference is None or difference.low is None:
        return images([lead])
    span = f"{numbers.number(difference.low)} to {numbers.number(difference.high)}"
    return (
        f"with a paired difference of {numbers.signed(difference.mean)} to its nearest rival, {lead.rival} "
        f"({100 * CONFIDENCE:.0f}{_SPACE}% interval {span}, {_warned(f'N = {difference.count:,}', difference.count)})"
    )


def _warned(text: str, count: int) -> str:
    return f"{text}, {few(count)}" if few(count) else text
