"""`attribute`: any method of the registry on a batch of images, without a pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssig.acceleration.model_cache import cached_replica
from ssig.api.inputs import PREDICTED, Images, Targets, batch_of, names_of, network_of, place_of, settled, targets_of
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, outcomes
from ssig.engine.replica import Replica
from ssig.engine.spans import in_spans
from ssig.errors import UsageError, nearest
from ssig.estimators.baselines import UNKNOWN_MEAN
from ssig.estimators.transfer import to_device
from ssig.models.independence import independent
from ssig.models.model import Model
from ssig.models.scores import SCORES
from ssig.options import describe
from ssig.randomness import Stream, content_key, stream
from ssig.registry import METHODS, MethodSpec
from ssig.types import Attribution, Explained, References

Key = str | tuple[str, str]

# Smooth interpolation exceeds the range of pixels a little.
OVERSHOOT = 0.2
# Of `attribute`, beside the method's options.
ARGUMENTS = ("method", "targets", "seed", "keys", "score", "baseline", "micro_batch", "references", "ready", "device")


def attribute(
    model: Callable[[Tensor], Tensor] | Replica,
    images: Images,
    targets: Targets = PREDICTED,
    method: str | MethodSpec | Callable[..., Tensor] = "ssig",
    *,
    seed: int = 0,
    keys: Sequence[Key] | None = None,
    score: str = "logit",
    baseline: str | Sequence[float] | Tensor | None = None,
    micro_batch: int | None = None,
    references: Tensor | None = None,
    ready: bool = True,
    device: torch.device | str | None = None,
    **options: Any,
) -> Attribution:
    """Attributes each image of a batch by its target's score.

    Args:
        model: a `ssig.load_model` network, or any callable from pixel-space batches (n, C, H, W) to logits
            (n, classes); a module must be in evaluation mode. Its attribute `mean` (C,), if it has one, is the
            `mean` baseline. A `Replica` of either is used directly. A network of `load_model` is made ready at the
            first call and cached (`ssig.acceleration.model_cache`).
        images: (B, C, H, W) floating point, in [0, 1] for networks of `load_model`; for these also a Pillow image or
            a list of them, which the network's own geometry resizes and crops.
        targets: a class for each image, or one for all: numbers, names where the network knows those of its classes
            (`categories`), or ``predicted``.
        method: a name of `ssig.list_methods()` or of an installed plug-in; ``./FILE.py:NAME``; a `MethodSpec`; or a
            function `f(model, images, targets, baselines, **options) -> maps` (`ssig.extend`).
        seed: random seed.
        keys: each image's key for its random draws, `key` or `(shard, key)` as in a run; by default its content.
        score: the explained score: logit, log-probability or probability.
        baseline: a name, a value per channel, or a tensor that broadcasts to `images`.
        micro_batch: points evaluated at once.
        references: (R, C, H, W) images of the data set, for methods that compare with them.
        ready: whether a network of `load_model` is evaluated by an optimised copy; False for the network itself. Other
            callables are never copied.
        device: where the network computes; by default the device of its first parameter or buffer, and where it has
            none, of the images. A module whose parameters are elsewhere must be moved there before.
        **options: of the method; `ssig methods` lists them.

    Returns:
        The attribution of all images, on the network's device, with the images and targets as `explained` (the tensor
        itself, which must not be changed while the result is shown). The same image gets the same random numbers in
        any batch.

    Raises:
        UsageError: an unknown method or option, or arguments of the wrong shape.
        ModelError: the network is random, or mixes the images of a batch; checked once for each network and shape.
    """
    for name, value in (("micro_batch", micro_batch), ("device", device)):
        if isinstance(model, Replica) and value is not None:
            raise UsageError(name, value, "nothing, because a replica has its own")
    plain = network_of(model)
    batch = batch_of(images, plain)
    place = place_of(plain, batch, device)
    wanted = targets_of(targets, len(batch), plain)
    if isinstance(model, nn.Module):
        independent(model, batch[:1].to(place))
    spec = METHODS.entry_of(method)
    if baseline is not None and not isinstance(baseline, Tensor):
        options["baseline"] = baseline
    parsed = _parsed(spec, options)
    if score not in SCORES:
        raise UsageError("score", score, SCORES)
    reference = None
    if isinstance(baseline, Tensor):
        reference = expanded(baseline, batch, "baseline")
    if isinstance(model, Model):
        _warn_of_range(batch)
    streams = _streams(batch, keys, seed, spec.name)
    if spec.references(parsed) and references is None:
        raise UsageError("references", None, f"images of the data set, (R, C, H, W), for {spec.name}")
    cost = spec.cost(parsed)
    # Two forwards take about as long as a gradient.
    gradients = len(batch) * ((cost.gradients or 0) + (cost.forwards or 0) // 2)
    with replica_of(model, place, micro_batch, ready, gradients, getattr(parsed, "layer", None)) as replica:
        classes = settled(wanted, batch, replica.forward)
        network = plain if spec.needs_network(parsed) else None
        arguments = _Arguments(batch, classes, streams, score, reference, references, network)
        result = _attribute(replica, spec, parsed, arguments)
    return replace(result, explained=Explained(batch, classes, names_of(classes, plain), spec.name, score))


def _parsed(spec: MethodSpec, options: dict[str, Any]) -> Any:
    """The method's options; an unknown name may also be a slip of an argument of `attribute`."""
    own_options = [*(doc.name for doc in describe(spec.options)), "preset"]
    for name, value in options.items():
        if name not in own_options:
            near = nearest(name, [*own_options, *ARGUMENTS])
            allowed = f"the options that `ssig methods {spec.name}` lists" if near else sorted(own_options)
            names, field = [*own_options, *ARGUMENTS], f"methods.{spec.name}.{name}"
            raise UsageError(field, value, allowed, known=names, unknown=name, owner=spec.name, kind="option")
    return spec.parse(options)


@contextmanager
def replica_of(
    model: Callable[[Tensor], Tensor] | Replica,
    device: torch.device,
    micro_batch: int | None = None,
    ready: bool = True,
    gradients: int = 0,
    layer: str | None = None,
) -> Iterator[Replica]:
    """A replica of `model` for the body, which takes so many gradients, perhaps at the output of a layer.

    Args:
        model, micro_batch, ready: as in `attribute`.
        device: of the network (`place_of`).
        gradients: their number.
        layer: whose output is captured.
    """
    if isinstance(model, Replica):
        yield model
    elif isinstance(model, Model) and ready and not model.training:
        with cached_replica(model, gradients, micro_batch=micro_batch, layer=layer) as replica:
            yield replica
    else:
        yield Replica(model, device=device, micro_batch=micro_batch)


class _Arguments(NamedTuple):
    """The checked arguments of `attribute`; `baseline` (B, C, H, W) is None if it was no tensor."""

    images: Tensor
    targets: Tensor
    streams: tuple[Stream, ...]
    score: str
    baseline: Tensor | None
    references: Tensor | None
    network: Callable[[Tensor], Tensor] | None


def _attribute(replica: Replica, spec: MethodSpec, options: Any, arguments: _Arguments) -> Attribution:
    """The attribution by a replica."""
    images, targets, streams, score, baseline, references, network = arguments
    mean = getattr(replica.model, "mean", None)
    if not isinstance(mean, Tensor):
        mean = torch.full((images.shape[1],), UNKNOWN_MEAN)
    reference_images = None
    if spec.references(options) and references is not None:
        reference_images = References(to_device(references, replica.device), replica.forward(references))

    def job_of(span: slice, budget: int) -> Job[None]:
        group = group_of(
            options,
            to_device(images[span], replica.device),
            targets[span],
            streams[span],
            mean=mean,
            score=score,
            baseline=None if baseline is None else to_device(baseline[span], replica.device),
        )
        group = replace(group, budget=budget, references=reference_images, network=network)
        return method_job(None, spec, options, group)

    parts = in_spans(len(images), replica.micro_batch, replica.device, job_of, partial(outcomes, replica))
    return Attribution.concatenate(list(parts))


def expanded(values: Tensor, images: Tensor, name: str) -> Tensor:
    """`values` broadcast to the shape of `images`."""
    try:
        return torch.broadcast_to(values.detach().to(images), images.shape)
    except RuntimeError:
        raise UsageError(name, tuple(values.shape), f"a tensor that broadcasts to {tuple(images.shape)}") from None


def _warn_of_range(images: Tensor) -> None:
    """Warns of images outside pixel space, which networks of `load_model` take."""
    low, high = torch.stack(images.aminmax()).tolist()
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        advice = "divide by 255" if low >= 0 and 1 + OVERSHOOT < high <= 255 else "undo any normalisation"
        warnings.warn(
            f"images from {low:.4g} to {high:.4g}: networks of load_model take pixels in [0, 1] and normalise them "
            f"themselves; {advice}",
            stacklevel=3,
        )


def _streams(images: Tensor, keys: Sequence[Key] | None, seed: int, method: str) -> tuple[Stream, ...]:
    if keys is None:
        arrays: list[np.ndarray] = [image.numpy() for image in images.cpu()]
        keys = [content_key(array) for array in arrays]
    if len(keys) != len(images):
        raise UsageError("keys", len(keys), f"one key for each of the {len(images)} images")
    pairs = [("", key) if isinstance(key, str) else key for key in keys]
    return tuple(stream(seed, shard, key, method) for shard, key in pairs)
