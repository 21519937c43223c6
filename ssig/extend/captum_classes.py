"""Any attribution class of Captum as a method:  `captum:DeepLift`, `captum:Lime:n_samples=1000,features=slic`.

Options are those of Captum's class and of its `attribute`, beside those of every method. `features` names the parts of
the image that are taken away together, for classes with a feature mask: segments, or a grid of cells. `pool` is the
number of images of the data set that are the baselines, for classes that compare with several.

- The class runs on the plain network, on one image at a time. Hooks are set on a copy in which each step is a module
  of its own (`ssig.extend.hookable`).
- LRP runs on the network behind its normalisation: relevance starts from what the first layer is given.
- Torch's random numbers are seeded for each image from its own stream, and restored. Captum draws on the CPU, so the
  map is the same in any batch and on any device.
- A value that stands for a whole feature stands at each of its pixels, as Captum returns it.
- What must hold for a class on a network is checked before the first map (`ssig.extend.captum_identities`).

Source: Kokhlikyan et al., *Captum: A unified and generic model interpretability library for PyTorch* (2020).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssig.engine.arithmetic import arithmetic
from ssig.errors import ModelError, UsageError, one_line
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints
from ssig.extend.captum_identities import IDENTITIES, check_identity
from ssig.extend.hookable import Manner, hookable
from ssig.extend.methods import CountedNetwork
from ssig.images.regions import SEGMENTATIONS, pictures
from ssig.methods.expected_gradients import scores_of_references
from ssig.models.model import Model
from ssig.options import option
from ssig.registry import MethodSpec
from ssig.types import Group, References, Steps

# Parameters that the adapter gives, or that do not change a map.
GIVEN = frozenset(
    {
        *("self", "model", "forward_func", "inputs", "baselines", "target", "feature_mask"),
        *("additional_forward_args", "return_convergence_delta", "custom_attribution_func", "return_input_shape"),
        *("show_progress", "verbose", "perturbations_per_eval", "internal_batch_size", "device_ids", "kwargs"),
    }
)
# Classes that cannot be methods -> what to type instead.
REFUSED = {
    "NoiseTunnel": "any method with its option over=noise",
    "GradientShap": "the method expected-gradients, which is the same with its option stdev",
    "FeaturePermutation": "another class: it mixes the images of a batch",
    "Attribution": "a class that has an algorithm",
    "GradientAttribution": "a class that has an algorithm",
    "PerturbationAttribution": "a class that has an algorithm",
}
# Classes whose attributions sum to f(x) - f(x').
COMPLETE = frozenset({"DeepLift", "DeepLiftShap"})
# Classes with rules for the parts of a network: none for a score that is computed from the logits.
OF_LOGITS = frozenset({"DeepLift", "DeepLiftShap", "LRP"})
# Gradients of an image, of classes where they are known. DeepLift evaluates the image beside each baseline, and LRP
# the image twice.
GRADIENTS: Mapping[str, Callable[[Any], int]] = {
    **dict.fromkeys(("DeepLift", "LRP"), lambda options: 2),
    **dict.fromkeys(("GuidedBackprop", "Deconvolution", "InputXGradient", "Saliency"), lambda options: 1),
    "DeepLiftShap": lambda options: 2 * int(options.pool),
    "IntegratedGradients": lambda options: int(options.n_steps),
}
# Evaluations of an image without gradients, of classes that take nothing else; for features that are taken away, with
# the one of the image itself. None where the number of features differs between images.
FORWARDS: Mapping[str, Callable[[Any], int | None]] = {
    **dict.fromkeys(("Lime", "KernelShap"), lambda options: int(options.n_samples)),
    "FeatureAblation": lambda options: _with_image(1, options.features),
    "ShapleyValueSampling": lambda options: _with_image(int(options.n_samples), options.features),
}
# Classes that take several baselines at once.
POOLED = frozenset({"DeepLiftShap"})

PAPERS = {
    "DeepLift": "Shrikumar, Greenside, Kundaje 2017",
    "DeepLiftShap": "Lundberg, Lee 2017",
    "GuidedBackprop": "Springenberg, Dosovitskiy, Brox, Riedmiller 2015",
    "Lime": "Ribeiro, Singh, Guestrin 2016",
    "KernelShap": "Lundberg, Lee 2017",
    "LRP": "Bach, Binder, Montavon, Klauschen, Müller, Samek 2015",
    "FeatureAblation": "Kokhlikyan et al. 2020",
    "ShapleyValueSampling": "Castro, Gómez, Tejada 2009",
}
EQUATIONS = {
    "DeepLift": "multipliers of differences from the baseline, by the rescale rule, times x - x'",
    "DeepLiftShap": "mean of DeepLift over baselines from the data set",
    "GuidedBackprop": "gradient of which each ReLU passes only what is positive",
    "Lime": "weights of a sparse linear model of the score over which features are there",
    "KernelShap": "Shapley values of features by a weighted regression",
    "LRP": "relevance, passed back in the shares of the inputs of each layer (epsilon rule)",
    "FeatureAblation": "f(x) - f(x with one feature at its baseline)",
    "ShapleyValueSampling": "Shapley values of features from random orders",
}
# The LIME authors' own settings for images: 1,000 samples of the probability.
PRESETS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "Lime": {"paper": {"n_samples": 1000, "score": "probability"}},
}
DOCS = {
    "n_samples": "samples of the estimate",
    "n_steps": "points on the path",
    "multiply_by_inputs": "whether values are times x - x'",
    "eps": "least change of an input that is not taken for 0",
    "abs": "whether values are magnitudes",
    "method": "quadrature of the path",
}
_ARGUMENT = re.compile(r"^[ \t]+(\w+) \([^)]*\):[ \t]*(.+)$", re.MULTILINE)


def check_features(name: str) -> list[str] | None:
    """None if `name` is a partition of images, else the names of those."""
    grid = re.fullmatch(r"grid-([1-9]\d*)", name)
    return None if name in SEGMENTATIONS or grid else [*SEGMENTATIONS, "grid-N"]


def cells(features: str) -> int | None:
    """The number of features of a grid, in an image of as many pixels a side or more; None for segments."""
    return None if features in SEGMENTATIONS else _side(features) ** 2


def _side(features: str) -> int:
    """N of ``grid-N``."""
    return int(features.removeprefix("grid-"))


def _with_image(times: int, features: str) -> int | None:
    count = cells(features)
    return None if count is None else times * count + 1


@dataclasses.dataclass(frozen=True)
class CaptumOptions(CommonOptions):
    """The options of every class of Captum."""

    readout: str = option("sum", "channels to map", choices=READOUTS)


FEATURES = ("features", str, option("felzenszwalb", "parts that are taken away together", check=check_features))
# Of the lasso of Lime, which is 0 everywhere where the score varies by less.
ALPHA = ("alpha", float, option(0.01, "penalty of the linear model, in units of the score", above=0))
POOL = ("pool", int, option(16, "images of the data set that are the baselines", at_least=1))


def of_class(kind: type[Any], name: str, shown: str) -> MethodSpec:
    """The entry of an attribution class of Captum.

    Raises:
        UsageError: the class needs more than images, targets and baselines.
    """
    title = kind.__name__
    if title in REFUSED:
        raise UsageError("method", shown, REFUSED[title])
    if not hasattr(kind, "attribute"):
        raise UsageError("method", shown, "a class of captum.attr that has a method `attribute`")
    constructor, call = (_parameters(part) for part in (kind.__init__, kind.attribute))
    fields: list[tuple[str, Any, Any]] = []
    for parameter in (*constructor.values(), *call.values()):
        if parameter.name in GIVEN:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise UsageError("method", shown, f"a class of captum.attr that needs no {parameter.name!r}")
        if isinstance(parameter.default, (bool, int, float, str)):
            doc = DOCS.get(parameter.name) or _documented(kind, parameter.name)
            fields.append((parameter.name, type(parameter.default), option(parameter.default, doc)))
    own = {field[0] for field in fields}
    fields += [FEATURES] if "feature_mask" in call else []
    fields += [POOL] if title in POOLED else []
    fields += [ALPHA] if title == "Lime" else []
    options = dataclasses.make_dataclass("Options", fields, bases=(CaptumOptions,), frozen=True)
    names = tuple(own & constructor.keys()), tuple(own & call.keys())
    return MethodSpec(
        name=name,
        run=functools.partial(_steps, _Class(kind, *names, "feature_mask" in call, "baselines" in call)),
        options=options,
        paper=PAPERS.get(title, "Kokhlikyan et al. 2020"),
        revision=1 if title in IDENTITIES else 0,  # on a copy with a module for each step
        equation=EQUATIONS.get(title, f"the class {title} of Captum"),
        evaluations=GRADIENTS.get(title, lambda options: 0),
        complete=title in COMPLETE,
        baseline=lambda options: "baselines" in call and title not in POOLED,
        references=lambda options: options.pool if title in POOLED else 0,
        presets=PRESETS.get(title, {}),
        network=True,
        forwards=FORWARDS.get(title, lambda options: 0),
        counted=title not in {*GRADIENTS, *FORWARDS},
    )


def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _documented(kind: type[Any], name: str) -> str:
    """The first line of Captum's documentation of a parameter."""
    texts = [inspect.getdoc(part) or "" for part in (kind.__init__, kind.attribute)]
    return next((line for text in texts for found, line in _ARGUMENT.findall(text) if found == name), "")


@dataclasses.dataclass(frozen=True)
class _Class:
    """A class of Captum, and which of its options go where.

    Attributes:
        kind: the class.
        of_constructor, of_call: names of the options of its constructor, and of `attribute`.
        masked: whether it takes a feature mask.
        from_baselines: whether it takes baselines.
    """

    kind: type[Any]
    of_constructor: tuple[str, ...]
    of_call: tuple[str, ...]
    masked: bool
    from_baselines: bool

    @property
    def name(self) -> str:
        return self.kind.__name__

    @property
    def hooks(self) -> bool:
        """Whether it works on the modules of a network and not on a function."""
        return "model" in _parameters(self.kind.__init__)

    def copied(self, network: nn.Module, point: Tensor) -> nn.Module:
        """A copy of a network for the hooks of this class."""
        # LRP has a rule for a module that sums, which it imports.
        summing = vars(sys.modules[self.kind.__module__]).get("Addition_Module")
        return hookable(network, point, Manner(summing, apart=self.name in COMPLETE))

    def __call__(
        self,
        network: nn.Module,
        image: Tensor,
        baseline: Tensor,
        target: int,
        options: Any,
        mask: Tensor | None = None,
        at_once: int = 1,
    ) -> Tensor:
        """Attributions (1, C, H, W) of an image from its baseline, or from several baselines (R, C, H, W)."""
        given = {name: getattr(options, name) for name in self.of_call}
        if self.from_baselines:
            given["baselines"] = baseline
        if self.masked:
            given |= {"feature_mask": mask}
        if "perturbations_per_eval" in _parameters(self.kind.attribute):
            given["perturbations_per_eval"] = at_once
        constructed = {name: getattr(options, name) for name in self.of_constructor}
        if self.name == "Lime":
            lasso = vars(sys.modules[self.kind.__module__])["SkLearnLasso"]
            constructed["interpretable_model"] = lasso(alpha=options.alpha)
        explainer = self.kind(network, **constructed)
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Captum warns of its hooks at every call
            values: Tensor = explainer.attribute(image.clone(), target=target, **given)
        return values.detach()


def _steps(algorithm: _Class, group: Group, options: Any) -> Steps:
    """The coroutine of a class of Captum."""
    scores = yield from endpoints(group)
    if group.network is None or group.targets is None:
        raise ModelError(f"Captum's {algorithm.name} needs the network itself, which is not available here")
    if algorithm.name in OF_LOGITS and group.score != "logit":
        raise ModelError(f"Captum's {algorithm.name} has no rule for the score {group.score}; type score=logit")
    pool = _pool(group.references) if algorithm.name in POOLED else None
    if pool is not None:
        scores = scores[0], scores_of_references(group, group.score).mean(dim=1).to(group.images)
    values, spent = [], []
    try:
        with arithmetic(getattr(group.network, "precision", None)):
            for row in range(len(group)):
                found, gradients = _attributed(algorithm, group.rows(torch.tensor([row])), options, pool)
                values.append(found)
                spent.append(gradients)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except ModelError as error:
        raise ModelError(f"Captum's {algorithm.name}: {error}") from error
    except Exception as error:  # Captum and the network may raise anything
        raise ModelError(f"Captum's {algorithm.name} cannot explain this network: {one_line(error)}") from error
    complete = algorithm.name in COMPLETE and getattr(options, "multiply_by_inputs", True)
    evaluations = torch.tensor(spent, dtype=torch.int64)
    joined = torch.cat(values).to(group.images)
    return attribution(joined, options.readout, scores, has_residual=complete, error=None, evaluations=evaluations)


def _attributed(algorithm: _Class, image: Group, options: Any, pool: References | None) -> tuple[Tensor, int]:
    """The attributions (1, C, H, W) of a group of one image, and the gradients spent on it."""
    if image.network is None or image.targets is None:
        raise ValueError("a group without its network or targets")
    points = image.images
    if algorithm.hooks:
        network, points = _modules(algorithm, image)
        _check(algorithm, network, points, options, image.score)
        counted = CountedNetwork(algorithm.copied(network, points), image.score)
    else:
        counted = CountedNetwork(image.network, image.score)
    mask = feature_mask(options.features, points) if algorithm.masked else None
    target, at_once = int(image.targets[0]), max(1, image.budget)
    with _seeded(image):
        if pool is None:
            found = algorithm(counted, points, image.baselines, target, options, mask, at_once)
        else:
            # Parts of two baselines or more, which is what the class takes.
            parts = pool.images.to(points).tensor_split(max(1, len(pool) // max(2, at_once // 2)))
            sums = [algorithm(counted, points, part, target, options) * len(part) for part in parts]
            found = torch.stack(sums).sum(dim=0) / len(pool)
    return found, counted.gradients


def _modules(algorithm: _Class, image: Group) -> tuple[nn.Module, Tensor]:
    """The network that a class takes apart, and the point (1, C, H, W) that it is given."""
    network = image.network
    if not isinstance(network, nn.Module):
        raise ModelError("it works on the modules of a network, and this network is a function")
    if algorithm.name == "LRP" and isinstance(network, Model):
        return network.network, _normalised(network, image.images)
    return network, image.images


def _check(algorithm: _Class, network: nn.Module, points: Tensor, options: Any, score: str) -> None:
    """Refuses a network for which the class is wrong."""
    if algorithm.name in COMPLETE:
        options = dataclasses.replace(options, multiply_by_inputs=True)

    def attributed(part: nn.Module, probe: Tensor, baseline: Tensor, target: int) -> Tensor:
        baselines = torch.cat([baseline] * 2) if algorithm.name in POOLED else baseline
        return algorithm(CountedNetwork(algorithm.copied(part, probe), score), probe, baselines, target, options)

    check_identity(algorithm.name, network, points, attributed, score)


def _normalised(network: Model, points: Tensor) -> Tensor:
    mean, std = (values.to(points.dtype).view(-1, 1, 1) for values in (network.mean, network.std))
    return (points - mean) / std


@contextmanager
def _seeded(image: Group) -> Iterator[None]:
    """Torch's random numbers on the CPU from the stream of a group of one image; restored afterwards."""
    (stream,) = image.streams
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(stream.generator(0).integers(2**63)))
        yield


def feature_mask(features: str, image: Tensor) -> Tensor:
    """(1, 1, H, W) int64, the number of each pixel's feature, from 0 without gaps.

    Args:
        features: ``felzenszwalb``, ``slic`` or ``grid-N``, N x N cells.
        image: (1, C, H, W).
    """
    height, width = image.shape[-2:]
    if features in SEGMENTATIONS:
        labels = np.asarray(SEGMENTATIONS[features](pictures(image)[0])[0], dtype=np.int64)
    else:
        side = _side(features)
        rows, columns = (np.arange(size) * min(side, size) // size for size in (height, width))
        labels = rows[:, None] * min(side, width) + columns
    numbered = np.unique(labels, return_inverse=True)[1].reshape(1, 1, height, width)
    return torch.from_numpy(numbered.astype(np.int64)).to(image.device)


def _pool(references: References | None) -> References:
    """The images of the data set that are the baselines."""
    if references is None:
        raise ModelError("it needs images of the data set as its baselines")
    if len(references) < 2:
        raise ModelError(f"it needs two images of the data set or more as its baselines (found {len(references)})")
    return references
