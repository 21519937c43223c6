"""What a run shows, in plain sentences made from its numbers: they say as readily that ours loses as that it wins."""

from __future__ import annotations

from pipeline.report.comparison import Comparison, Lead

LEADS_ONLY = 100
NARROW = 30
CLAIM = 1000


def caution(images: int) -> str:
    """What the number of images allows one to say; empty where it is enough."""
    if images < LEADS_ONLY:
        text = f"N = {images} images, fewer than {LEADS_ONLY}: these numbers are leads, not results."
        return text + (" Bootstrap intervals of so few images are too narrow." if images < NARROW else "")
    if images < CLAIM:
        return f"N = {images} images: fewer than the {CLAIM:,} that a claim about methods should rest on."
    return ""


def summary(comparison: Comparison, leads: list[Lead]) -> str:
    """One paragraph: which method leads each metric, whether it is separated from the runner-up, and where the
    reference method stands."""
    if not leads:
        return "No two methods share a metric that has a better direction, so there is nothing to compare."
    sentences = [text for method in comparison.methods if (text := _leading(method, leads))]
    tied = [lead.column.name for lead in leads if lead.tied]
    if tied:
        sentences.append(f"On {_listed(tied)} the first two are equal.")
    contradicted = [lead.column.name for lead in leads if lead.contradicted]
    if contradicted:
        sentences.append(
            f"On {_listed(contradicted)} nobody is said to lead: on the images that both have, the method of the best "
            "mean is not ahead of the second."
        )
    return " ".join([*sentences, _standing(comparison.methods[0], leads)])


def _leading(method: str, leads: list[Lead]) -> str:
    mine = [lead for lead in leads if lead.leader == method and not lead.tied and not lead.contradicted]
    clear = [lead.column.name for lead in mine if lead.separated]
    unclear = [lead.column.name for lead in mine if not lead.separated]
    parts = []
    if clear:
        parts.append(f"{_listed(clear)}, separated from the runner-up")
    if unclear:
        parts.append(f"{_listed(unclear)}, not separated from the runner-up")
    return f"{method} leads on {'; and on '.join(parts)}." if parts else ""


def _standing(reference: str, leads: list[Lead]) -> str:
    ranked = [lead for lead in leads if lead.rank is not None]
    if not ranked:
        return f"The reference method {reference} has none of these metrics."
    ranked = [lead for lead in ranked if not lead.contradicted]
    if not ranked:
        return f"So nothing is said of where the reference method {reference} stands."
    behind = [lead for lead in ranked if lead.reference_behind]
    clear = [lead.column.name for lead in behind if lead.reference_clearly_behind]
    if not behind:
        return f"The reference method {reference} is behind on none of its {len(ranked)} metrics."
    text = f"The reference method {reference} is behind the leader on {len(behind)} of {len(ranked)} metrics; "
    if clear:
        return f"{text}the paired 95\N{NO-BREAK SPACE}% interval of the difference excludes 0 on {_listed(clear)}."
    return f"{text}on none of them does the paired 95\N{NO-BREAK SPACE}% interval of the difference exclude 0."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
