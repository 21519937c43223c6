"""Efficient model parameter randomisation test: how much more complex a map gets when the whole network is random.

    emprt = (E(A_rand) - E(A)) / E(A),   E the entropy of the histogram of a map's values, in bins of equal width

Hedström et al., Sanity Checks Revisited, 2024. Higher is better: a random network should be explained by noise.
A_rand is the map under the network with every layer initialised anew, with the same target and random draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import entropy

from ssig.metrics.randomisation.randomised_networks import randomised, randomised_maps
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.similarity import CONSTANT, VALUES, read
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class EmprtOptions:
    """How the complexity of a map is measured."""

    bins: int = option(100, "bins of the histogram, from the map's least value to its greatest", at_least=2)
    values: str = option("signed", "what is counted: |map|, or the signed map", choices=VALUES)


def emprt(evaluation: Evaluation, options: EmprtOptions) -> MetricResult:
    """Relative rise of the entropy."""
    networks = randomised(evaluation)
    if isinstance(networks, str):
        nothing = np.full(len(evaluation), np.nan)
        return assemble({"emprt": nothing}, [{"emprt": networks}] * len(evaluation))
    before = _entropies(read(evaluation.maps, options.values), options.bins)
    after = _entropies(read(randomised_maps(evaluation, networks, networks.layers), options.values), options.bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = (after - before) / before
    return assemble({"emprt": rise}, [{"emprt": CONSTANT} if value == 0 else {} for value in before])


def _entropies(maps: np.ndarray, bins: int) -> np.ndarray:
    """(B,) nats; 0 for a constant map, NaN for one that is not finite."""
    return np.array(
        [entropy(np.histogram(values, bins=bins)[0]) if np.isfinite(values).all() else np.nan for values in maps]
    )


METRICS.add(
    MetricSpec(
        name="emprt",
        compute=emprt,
        options=EmprtOptions,
        columns={"emprt": "higher"},
        definition="relative rise of the entropy of the map's values when every layer of the network is randomised "
        "(explains each image once more)",
        range="[-1, inf)",
        reference="Hedström et al., Sanity Checks Revisited, 2024",
        forwards=lambda options: 0,
        family="randomisation",
        explanations=lambda options: 1,
        needs=frozenset({"map", "model", "method"}),
    )
)
