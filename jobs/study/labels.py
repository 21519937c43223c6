"""The labels of the study's methods, and what they say.

A method goes by its own name (`ssig`, `samp++`), by that and its number of gradients (`ssig-64`), as a law of samples
with an integrand (`uniform+gradient`), or as a law at a strength (`noise-0.3`).
"""

from __future__ import annotations

import re

NOISE = "noise"  # the law of samples that suppresses nothing
LINE = "line"  # the law of `ig`: the image, faded as a whole by each strength
SAME = {  # the method that a law and integrand are
    "uniform+magnitude": "ssig",
    "uniform+gradient": "ssig-signed",
    "frequency+magnitude": "ssig-frequency",
    "bernoulli+gradient": "ssig-shapley",
}
_PAIR = re.compile(r"([\w-]+)\+([\w-]+)")
_COSTED = re.compile(r"(.+)-(\d+)")


def law_and_integrand(label: str) -> tuple[str, str] | None:
    """The parts of `LAW+INTEGRAND`; None of any other label."""
    parts = _PAIR.fullmatch(label)
    return (parts[1], parts[2]) if parts is not None else None


def name_and_gradients(label: str) -> tuple[str, int] | None:
    """The parts of `METHOD-GRADIENTS`; None of any other label."""
    parts = _COSTED.fullmatch(label)
    return (parts[1], int(parts[2])) if parts is not None else None


def is_setting(label: str) -> bool:
    """Whether a label names no method of its own: a number of gradients, a law with an integrand or a strength."""
    has_number = label.rpartition("-")[2].replace(".", "").isdigit()
    return has_number or law_and_integrand(label) is not None


def named(label: str) -> str:
    """A law and integrand in a sentence, by the method that is the same but for what it draws."""
    return f"`{SAME[label]}` (as `{label}`, with other random numbers)" if label in SAME else f"`{label}`"
