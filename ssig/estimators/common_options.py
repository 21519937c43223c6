"""The options and the run of the suppression family: one sampler, one integrand, one readout.

Named methods differ only in their defaults. Every choice is an option and is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from ssig.errors import UsageError
from ssig.estimators.adaptive_sampling import AUTO, CRITERIA, FIRST, integrate_until
from ssig.estimators.baselines import BASELINES
from ssig.estimators.integrands import INTEGRANDS, READOUTS, default_readout
from ssig.estimators.integration import integrate
from ssig.estimators.quadrature import RULES, smallest
from ssig.estimators.samplers import SAMPLERS, SPECTRA, Sampler, name_of_points, sampler
from ssig.images.postprocess import REGIONS
from ssig.models.scores import SCORES
from ssig.options import option, quiet
from ssig.types import Group, Steps

# Inputs over which any method can be averaged (`ssig.estimators.over`).
OVER = ("none", "noise", "uniform")


@dataclass(frozen=True)
class CommonOptions:
    """Options of every method."""

    baseline: str | tuple[float, ...] = option(
        "mean", "the reference x'; a list gives each channel", choices=BASELINES
    )
    score: str | None = option(None, "the explained score; by default the model's", choices=SCORES)
    readout: str | None = option(
        None, "channels to map; by default sum-abs for magnitude and squared, sum otherwise", choices=READOUTS
    )
    smoothing: float = option(0.0, "Gaussian over the map, sigma in pixels; 0 for none", at_least=0)
    regions: str = option("none", "the map's mean over each segment of the image", choices=REGIONS)
    over: str = quiet(
        option("none", "the method's mean over random inputs: noisy ones, or suppressed ones", choices=OVER)
    )
    over_samples: int = quiet(option(25, "random inputs; each costs as much as the method", at_least=1))
    over_sigma: float = quiet(option(0.15, "noise of the random inputs, as a fraction of the image's range", above=0))


def check_sampler(name: str) -> tuple[str, ...] | None:
    """None if `name` is a sampler, else the names of the samplers."""
    return None if sampler(name) else tuple(SAMPLERS)


def samples_option(default: int = 32) -> int:
    value: int = option(default, "gradient evaluations per image", at_least=1)
    return value


@dataclass(frozen=True)
class SampledOptions(CommonOptions):
    """Options of the methods that are an expectation: with `samples: auto` they draw until the error is small."""

    samples: int | str = option(
        32, "gradient evaluations per image, or auto: until the error meets the tolerance", choices=(AUTO,), at_least=1
    )
    tolerance: float = option(0.1, "error at which `samples: auto` stops, see `criterion`", above=0)
    criterion: str = option(
        "standard-error",
        "error for `samples: auto`: mean standard error over mean |map|, or 1 - split-half rank correlation",
        choices=CRITERIA,
    )
    most: int = option(512, "most samples per image with `samples: auto`", at_least=FIRST)

    @property
    def evaluations(self) -> int:
        """Gradient evaluations per image, at most."""
        return self.most if isinstance(self.samples, str) else self.samples


def expectation(group: Group, law: Sampler, options: SampledOptions, integrand_name: str, readout_name: str) -> Steps:
    """The coroutine of a method that is an expectation over one sampler."""
    if not isinstance(options.samples, str):
        return integrate(group, law, samples=options.samples, integrand_name=integrand_name, readout_name=readout_name)
    return integrate_until(
        group,
        law,
        most=options.most,
        tolerance=options.tolerance,
        criterion=options.criterion,
        integrand_name=integrand_name,
        readout_name=readout_name,
    )


def integrand_option(default: str) -> str:
    value: str = option(default, "what is averaged", choices=INTEGRANDS)
    return value


def sampler_option(default: str) -> str:
    value: str = option(default, "the sample distribution", check=check_sampler)
    return value


@dataclass(frozen=True)
class SamplerOptions(CommonOptions):
    """The choice of a sampler of the family."""

    sampler: str = sampler_option("uniform")
    low: float = option(0.0, "least factor of uniform samplers", at_least=0, at_most=1)
    high: float = option(1.0, "greatest factor of uniform samplers", at_least=0, at_most=1)
    spectrum: str = option("bins", "mask of the frequency sampler", choices=tuple(SPECTRA))
    sigma: float = option(0.15, "noise, as a fraction of the image's range", above=0)
    rule: str = option("midpoint", "quadrature of the line sampler", choices=RULES)

    def check(self, samples: int | None) -> None:
        """Refuses a sampler that cannot give `samples` samples, or an open number of them."""
        check_range(self.low, self.high)
        if samples is not None:
            check_rule(self.rule, samples, self.sampler == "line")
        elif self.law().kind == "deterministic":
            raise UsageError("samples", AUTO, f"a number, as the sampler {self.sampler} has no randomness")

    def law(self) -> Sampler:
        """The sampler."""
        law = sampler(
            self.sampler,
            low=self.low,
            high=self.high,
            spectrum=self.spectrum,
            sigma=self.sigma,
            rule=self.rule,
        )
        if law is None:
            raise UsageError("sampler", self.sampler, SAMPLERS)
        return law


@dataclass(frozen=True)
class SuppressionOptions(SamplerOptions, SampledOptions):
    """Options of the methods that are an expectation over one sampler of the family."""

    integrand: str = integrand_option("magnitude")

    def __post_init__(self) -> None:
        self.check(None if isinstance(self.samples, str) else self.samples)
        if self.readout is None:
            object.__setattr__(self, "readout", default_readout(self.integrand))


def check_range(low: float, high: float) -> None:
    """Refuses an empty range of factors."""
    if low > high:
        raise UsageError("low", low, f"at most high ({high})")


def check_rule(rule: str, points: int, used: bool = True) -> None:
    """Refuses fewer points than a quadrature rule needs."""
    if used and points < smallest(rule):
        raise UsageError("rule", rule, f"another rule, or at least {smallest(rule)} points (found {points})")


class _OneLaw(Protocol):
    """Options of a method that takes a number of samples of one law."""

    @property
    def samples(self) -> int | str: ...

    def law(self) -> Sampler: ...


def path_of(method: str) -> Callable[[_OneLaw], Hashable | None]:
    """`MethodSpec.path` of a method of one law: its integrands and readouts share gradients."""
    return lambda options: name_of_points(options.law(), options.samples, method)


def run(group: Group, options: SuppressionOptions) -> Steps:
    """The coroutine of every method of the family."""
    if options.readout is None:
        raise ValueError(f"unchecked options: {options}")
    return expectation(group, options.law(), options, options.integrand, options.readout)
