"""Attributions of a unit, under one label or under several whose methods walk the same path."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from pipeline.run.labels import Label
from pipeline.unit.caches import BaselineScores
from pipeline.unit.inputs import Prepared
from pipeline.unit.references import ReferencePool
from ssig.acceleration.ready_replica import prepared_copy
from ssig.engine.accelerators import to_host
from ssig.engine.device import Device
from ssig.engine.explainer import CACHE_SIZE, MethodExplainer
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job
from ssig.engine.shared_paths import together
from ssig.engine.spans import in_spans
from ssig.estimators.transfer import to_device
from ssig.models import Model
from ssig.options import build
from ssig.randomness import stream
from ssig.registry import METHODS, MethodSpec
from ssig.types import Attribution, Memo, Request, Response

# Called with the number of maps that were just attributed or measured.
Advance = Callable[[int], None]


def silent(count: int) -> None:
    """Ignores progress."""


class LabelMethod(NamedTuple):
    """What a label explains: its method with parsed options, and the score."""

    spec: MethodSpec
    options: Any
    score: str

    @property
    def path(self) -> Hashable | None:
        """Names the points at which the network is evaluated; None where no other method has the same ones."""
        walked = self.spec.path(self.options)
        same_ends = isinstance(self.options.baseline, tuple) or self.options.baseline != "uniform"
        return (walked, self.options.baseline, self.score) if walked is not None and same_ends else None


class Attributor:
    """Attributes units on one device.

    Args:
        device: the network.
        model: gives the mean of the baseline ``mean``.
        seed: of the run.
        references: for the methods that compare with images of the data set.
        fresh: gives a plain copy of the network as it was loaded, for the metrics that change it.
    """

    def __init__(
        self,
        device: Device,
        model: Model,
        seed: int,
        references: ReferencePool,
        fresh: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.device = device
        self.model = model
        self.seed = seed
        self.references = references
        self.fresh = fresh
        self._cache = Memo(CACHE_SIZE)
        self._methods = Memo()
        self._plain = Memo()
        self._baseline_scores = BaselineScores(device, model)

    def method(self, label: Label) -> LabelMethod:
        """What a label explains; its options are parsed once."""
        return self._methods((label.evaluation, label.method), lambda: method_of(label))

    def companions(self, label: Label, candidates: Sequence[Label]) -> list[Label]:
        """Those of `others` whose methods evaluate the network at the same points as `label`'s."""
        path = self.method(label).path
        return [] if path is None else [candidate for candidate in candidates if self.method(candidate).path == path]

    def attribute(self, labels: Sequence[Label], prepared: Prepared, advance: Advance = silent) -> list[Attribution]:
        """The attributions of a unit's ok samples, of which there is one at least, under each label.

        Args:
            labels: one, or several that share a path.
            prepared: the unit.
            advance: called with the number of images that were just attributed.
        """
        replica = self.device.replica

        def job_of(span: slice, budget: int) -> Job[None]:
            jobs = [self._job(label, prepared, span, budget) for label in labels]
            return Job(None, _stored(jobs, labels), jobs[0].targets, jobs[0].score)

        parts: list[list[Attribution]] = []
        for results in in_spans(len(prepared.ok), replica.micro_batch, replica.device, job_of, self.device.outcomes):
            advance(len(results[0]))
            parts.append(results)
        return [Attribution.concatenate([part[number] for part in parts]) for number in range(len(labels))]

    def explainer(
        self, label: Label, images: Tensor, targets: Tensor, keys: tuple[tuple[str, str], ...]
    ) -> MethodExplainer:
        """A label's method, to be called again by metrics of these images."""
        method = self.method(label)
        return MethodExplainer(
            device=self.device,
            spec=method.spec,
            options=method.options,
            images=images,
            targets=targets,
            keys=keys,
            mean=self.model.mean,
            score=method.score,
            seed=self.seed,
            references=self.references,
            fresh=self.fresh,
            cache=self._cache,
            plain=self.plain,
            prepare=partial(prepared_copy, keep=self.device.replica.keep),
        )

    def plain(self) -> Callable[[Tensor], Tensor]:
        """The network as it was loaded, for methods that need it; the optimised one where there is no copy."""
        return self._plain((), lambda: self.device.replica.model if self.fresh is None else self.fresh())

    def _job(self, label: Label, prepared: Prepared, span: slice, budget: int) -> Job[None]:
        spec, options, score = self.method(label)
        device = self.device.replica.device
        rows = [prepared.outcomes[position].row for position in prepared.ok[span]]
        targets = prepared.targets[span]
        streams = tuple(stream(self.seed, row.shard, row.key, spec.name) for row in rows)
        images = to_device(prepared.images[span], device)
        baseline_scores = self._baseline_scores(options.baseline, score, targets)
        group = replace(
            group_of(options, images, targets, streams, mean=self.model.mean, score=score),
            budget=budget,
            scores=to_device(prepared.scores(score)[span], device),
            baseline_scores=None if baseline_scores is None else to_device(baseline_scores, device),
            references=self.references(spec.references(options)),
            logits=to_device(prepared.logits[span], device),
            network=self.plain() if spec.needs_network(options) else None,
        )
        return method_job(None, spec, options, group)


def method_of(label: Label) -> LabelMethod:
    """What a label explains, parsed from its configuration."""
    method = label.settings.method
    spec = METHODS[method.name]
    options = build(spec.options, method.options, where=f"methods.{spec.name}")
    return LabelMethod(spec, options, options.score or label.config["model"]["score"])


def _stored(jobs: Sequence[Job[None]], labels: Sequence[Label]) -> Generator[Request, Response, list[Attribution]]:
    """Runs jobs together; the stored parts of their results, copied off the device so that a unit does not fill it."""
    results = yield from together([job.steps for job in jobs])
    return [_off_device(result, label.settings.channels) for result, label in zip(results, labels, strict=True)]


def _off_device(result: Attribution, channels: bool) -> Attribution:
    values = result.values if channels else result.values.new_empty((len(result), 0, 0, 0))
    moved: dict[str, Any] = {
        name: None if value is None else to_host(value) for name, value in vars(replace(result, values=values)).items()
    }
    return Attribution(**moved)


def needs_references(labels: Iterable[Label]) -> bool:
    """Whether a method compares with images of the whole data set."""
    return any(method.spec.references(method.options) for method in map(method_of, labels))
