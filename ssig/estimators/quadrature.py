"""Quadrature rules on [0, 1] as data: `integral of g(a) da  ~  sum_k w_k g(a_k)`, with weights that sum to 1.

gauss-legendre  exact for polynomials of degree 2n - 1
left            a_k = k / n
right           a_k = (k + 1) / n
midpoint        a_k = (k + 1/2) / n
trapezoid       a_k = k / (n - 1), end points with half weight; the weights are 1 / (n - 1), so that they sum to 1
endpoints       a_k = k / (n - 1), all with weight 1 / n (the rule of the PAIR implementation of IG)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

RULES = ("gauss-legendre", "left", "right", "midpoint", "trapezoid", "endpoints")


# Rules that are kept: a method asks for its rule at every node.
KEPT = 64


@lru_cache(KEPT)
def quadrature(rule: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1], ascending, and their weights, both (points,) float64 and read-only; computed once.

    Args:
        rule: one of `RULES`.
        points: at least 1; at least 2 for `trapezoid` and `endpoints`.

    Raises:
        ValueError: fewer points than the rule is defined for, or an unknown rule.
    """
    nodes, weights = _computed(rule, points)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def _computed(rule: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    if points < smallest(rule):
        raise ValueError(f"rule {rule!r} needs at least {smallest(rule)} points, not {points}")
    steps = np.arange(points, dtype=np.float64)
    equal = np.full(points, 1 / points)
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(points)
        return (nodes + 1) / 2, weights / weights.sum()
    if rule == "left":
        return steps / points, equal
    if rule == "right":
        return (steps + 1) / points, equal
    if rule == "midpoint":
        return (steps + 0.5) / points, equal
    if rule == "endpoints":
        return steps / (points - 1), equal
    if rule == "trapezoid":
        weights = np.full(points, 1 / (points - 1))
        weights[[0, -1]] /= 2
        return steps / (points - 1), weights
    raise ValueError(f"unknown rule {rule!r}")


def smallest(rule: str) -> int:
    """The fewest points that `rule` is defined for."""
    return 2 if rule in ("trapezoid", "endpoints") else 1
