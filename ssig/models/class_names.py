"""Classes by what they are called."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

from ssig.errors import UsageError
from ssig.models import ilsvrc

_SHOWN = 3  # classes of one name that an error lists


def class_number(name: str, categories: Sequence[str], field: str = "targets") -> int:
    """The number of the class of a name.

    Args:
        name: one of `categories`, in upper or lower case; of ILSVRC's classes also a WordNet id or a synonym.
        categories: the network's names of its classes, in order.
        field: what an error calls the argument.

    Raises:
        UsageError: no class or several have that name.
    """
    exact = [number for number, category in enumerate(categories) if category == name]
    found = exact if len(exact) == 1 else sorted(_numbers(tuple(categories)).get(_plain(name), ()))
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(f"{number} ({categories[number]})" for number in found[:_SHOWN])
        raise UsageError(field, name, f"a class by its number, since several have this name: {shown}", known=())
    allowed = f"a class number from 0 to {len(categories) - 1}, a class name, or predicted"
    raise UsageError(field, name, allowed, known=[*categories, *_numbers(tuple(categories)), "predicted"])


@functools.lru_cache(maxsize=8)
def _numbers(categories: tuple[str, ...]) -> Mapping[str, frozenset[int]]:
    """Plain name -> the classes that have it."""
    known = ilsvrc.is_ilsvrc(categories)
    found: dict[str, set[int]] = {}
    for number, category in enumerate(categories):
        for name in (category, *(ilsvrc.aliases(number) if known else ())):
            found.setdefault(_plain(name), set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def _plain(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))
