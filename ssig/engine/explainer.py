"""A run's method, called again: on other images, targets and networks, with its options and its random streams.

The run's network shares the device's micro-batches with all other jobs. Another network is evaluated on the calling
thread, without the device's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ssig.engine.accelerators import mark, to_host
from ssig.engine.device import Device
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, outcomes
from ssig.engine.replica import Replica
from ssig.engine.spans import in_spans
from ssig.estimators.transfer import to_device
from ssig.randomness import Stream, stream
from ssig.registry import MethodSpec
from ssig.types import SCORE_AND_GRADIENT, Memo, References, Request, Response, Steps

# Results that metrics cache are as large as a few copies of the network.
CACHE_SIZE = 2


def no_references(count: int) -> References | None:
    """None: no images of a data set are available."""
    return None


@dataclass(frozen=True)
class MethodExplainer:
    """The `ssig.types.Explainer` of one batch.

    Attributes:
        device: the run's network.
        spec, options: the method and its parsed options.
        images: (B, C, H, W), the batch.
        targets: (B,) int64.
        keys: for each image its shard's basename and its key, which determine its random numbers.
        mean: (C,) of the network.
        score: the model's score.
        seed: of the run.
        references: `count -> References`, for the methods that compare with images of the data set.
        fresh: makes a plain copy of the network, as it was loaded; None if it cannot be copied.
        cache: results that metrics share between batches.
        plain: makes the plain network, for a method that needs it.
        prepare: makes a copy of another network that explains faster; None if it cannot.
    """

    device: Device
    spec: MethodSpec
    options: Any
    images: Tensor
    targets: Tensor
    keys: tuple[tuple[str, str], ...]
    mean: Tensor
    score: str = "logit"
    seed: int = 0
    references: Callable[[int], References | None] = no_references
    fresh: Callable[[], nn.Module] | None = None
    cache: Memo = field(default_factory=lambda: Memo(CACHE_SIZE))
    plain: Callable[[], Callable[[Tensor], Tensor]] | None = None
    prepare: Callable[[nn.Module], nn.Module | None] | None = None

    def maps(
        self, images: Tensor, targets: Tensor, rows: Tensor, network: nn.Module | None = None, draw: int = 0
    ) -> Tensor:
        """(n, H, W) readout maps, on the CPU; see `Explainer`."""
        run_replica = self.device.replica
        replica = run_replica
        if network is not None:
            replica = Replica(
                network, device=run_replica.device, micro_batch=run_replica.micro_batch, layout=run_replica.layout
            )
        references = self._references(None if network is None else replica)

        def job_of(span: slice, budget: int) -> Job[None]:
            job = self._job(images[span], targets[span], rows[span], draw, budget, references, network)
            return Job(None, _map(job.steps), job.targets, job.score)

        attributed = self.device.outcomes if network is None else partial(outcomes, replica)
        maps = list(in_spans(len(images), replica.micro_batch, replica.device, job_of, attributed))
        if network is not None:  # the run's device has waited for its own
            mark(replica.device).wait()
        return torch.cat(maps)

    def fresh_network(self) -> nn.Module | None:
        """A plain copy of the network, as it was loaded; see `Explainer`."""
        return None if self.fresh is None else self.fresh()

    def prepared(self, network: nn.Module) -> nn.Module | None:
        """A copy of another network that explains faster; see `Explainer`."""
        return None if self.prepare is None else self.prepare(network)

    def samples(self, row: int, count: int) -> Tensor | None:
        """Points at which the method takes gradients for an image, evenly spread; see `Explainer`."""
        rows = torch.tensor([row])
        job = self._job(self.images[rows], self.targets[rows], rows, 0, count, self._references(None))
        # The points of a path are known before any gradient: it costs none to draw them again.
        needed = self.spec.path(self.options) is None
        (points,) = self.device.run([Job(None, _points(job.steps, count, needed), job.targets, job.score)])
        samples: Tensor | None = points
        return samples

    def _job(
        self,
        images: Tensor,
        targets: Tensor,
        rows: Tensor,
        draw: int,
        budget: int,
        references: References | None,
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> Job[None]:
        streams = tuple(self._stream(row, draw) for row in rows.tolist())
        images = to_device(images, self.device.replica.device)
        if not self.spec.needs_network(self.options):
            network = None
        elif network is None:
            network = self.device.replica.model if self.plain is None else self.plain()
        group = replace(
            group_of(self.options, images, targets, streams, mean=self.mean, score=self.score),
            budget=budget,
            references=references,
            network=network,
        )
        return method_job(None, self.spec, self.options, group)

    def _stream(self, row: int, draw: int) -> Stream:
        shard, key = self.keys[row]
        return stream(self.seed, shard, key, f"{self.spec.name}\0{draw}" if draw else self.spec.name)

    def _references(self, other: Replica | None) -> References | None:
        """The references of the method, with logits of the explained network."""
        references = self.references(self.spec.references(self.options))
        if references is None or other is None:
            return references
        return References(references.images, other.forward(references.images))


def _map(steps: Steps) -> Generator[Request, Response, Tensor]:
    """The map of an attribution, copied to the CPU."""
    result = yield from steps
    return to_host(result.map)


def _points(steps: Steps, count: int, needed: bool) -> Generator[Request, Response, Tensor | None]:
    """`count` of the points at which a method takes gradients, evenly spread; all points if there are fewer.

    Args:
        steps: of the method.
        count: how many.
        needed: whether its points depend on its gradients; if not, it is told that these are 0.
    """
    spread = Spread(count)
    try:
        request = next(steps)
        while True:
            if "gradient" not in request.want:
                request = steps.send((yield request))
                continue
            spread.add(request.points)
            known = not needed and request.want <= SCORE_AND_GRADIENT and request.layer is None
            request = steps.send(_zeros(request.points) if known else (yield request))
    except StopIteration:
        return spread.points()


def _zeros(points: Tensor) -> Response:
    return Response(scores=points.new_zeros(len(points)), gradients=torch.zeros_like(points))


class Spread:
    """Chooses n evenly spread points of S that come in parts: `floor((i + .5) S / n)`, i = 0 ... n - 1.

    S is known only at the end. All points are held until there are 2n; then every second one is dropped, also of the
    points to come, and so on. The positions are exact for S up to 2n, else off by less than S / n.
    """

    _ROOM = 2

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[Tensor] = []
        self._every, self._first, self._seen = 1, 0, 0

    def add(self, points: Tensor) -> None:
        """Takes in the next points (n, ...)."""
        ahead = (self._first - self._seen) % self._every
        self._seen += len(points)
        # Copies: a view would keep the dropped points in memory.
        self._held += [point.clone() for point in points[ahead :: self._every]]
        while len(self._held) > self._ROOM * self._count:
            # Drops alternately the first and the second of each pair, so that neither end of the range is favoured.
            start = int(self._first < self._every // 2 or self._every == 1)
            self._first, self._every = self._first + start * self._every, 2 * self._every
            self._held = self._held[start::2]

    def points(self) -> Tensor | None:
        """(n, ...), n at most `count`; None if no points were added."""
        total = len(self._held)
        count = min(self._count, total)
        positions = [(2 * number + 1) * total // (2 * count) for number in range(count)]
        return torch.stack([self._held[position] for position in positions]) if total else None
