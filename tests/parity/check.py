"""What parity is made of: a method or metric, its reference, and how far apart the two may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A method or metric against its reference.

    Attributes:
        name: of the method or metric, with what sets this check apart.
        reference: the implementation compared with.
        tolerance: the greatest difference that is agreement.
        measure: gives the difference.
    """

    name: str
    reference: str
    tolerance: float
    measure: Callable[[], float]
