"""A run's method, called again: on other images, targets and networks, with its options and its random streams.

The run's own network shares the device's micro-batches with everything else that is asked of it. Another network is
evaluated plainly, on the thread that asks, and leaves the device's thread alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssig.engine.device import Device
from ssig.engine.jobs import group_of, method_job
from ssig.engine.micro_batches import Job, groups, run
from ssig.engine.replica import Replica
from ssig.randomness import Stream, stream
from ssig.registry import MethodSpec
from ssig.types import Memo, References, Request, Response, Steps

# What metrics keep is as large as a few copies of the network.
MOST_KEPT = 2


def no_references(count: int) -> References | None:
    """No images of a data set."""
    return None


@dataclass(frozen=True)
class MethodExplainer:
    """The `ssig.types.Explainer` of one batch.

    Attributes:
        device: the run's network.
        spec, options: the method and its parsed options.
        images: (B, C, H, W), the batch.
        targets: (B,) int64.
        keys: for each image its shard's basename and its key, from which its random numbers follow.
        mean: (C,) of the network.
        score: the model's score.
        seed: of the run.
        references: `count -> References`, for the methods that compare with images of the data set.
        fresh: gives a plain copy of the network, as it was loaded; None where there is no way to one.
        kept: what metrics keep between batches.
        plain: gives the plain network, for a method that wants it.
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
    kept: Memo = field(default_factory=lambda: Memo(MOST_KEPT))
    plain: Callable[[], Callable[[Tensor], Tensor]] | None = None

    def maps(
        self, images: Tensor, targets: Tensor, rows: Tensor, network: nn.Module | None = None, draw: int = 0
    ) -> Tensor:
        """(n, H, W) readout maps, on the CPU; see `Explainer`."""
        own = self.device.replica
        replica = own
        if network is not None:
            replica = Replica(network, device=own.device, micro_batch=own.micro_batch, layout=own.layout)
        references = self._references(None if network is None else replica)

        def jobs() -> Iterator[Job[int]]:
            for span, budget in groups(len(images), replica.micro_batch):
                job = self._job(images[span], targets[span], rows[span], draw, budget, references, network)
                yield Job(span.start, _map(job.steps), job.targets, job.score)

        if network is None:
            return torch.cat(self.device.run(jobs()))
        done = sorted(((job.tag, cast(Any, result)) for job, result in run(replica, jobs())), key=lambda pair: pair[0])
        return torch.cat([result for _, result in done])

    def fresh_network(self) -> nn.Module | None:
        """A plain copy of the network, as it was loaded; see `Explainer`."""
        return None if self.fresh is None else self.fresh()

    def samples(self, row: int, count: int) -> Tensor | None:
        """Points at which the method takes gradients for an image, evenly over all of them; see `Explainer`."""
        one = torch.tensor([row])
        job = self._job(self.images[one], self.targets[one], one, 0, count, self._references(None))
        (points,) = self.device.run([Job(None, _points(job.steps, count), job.targets, job.score)])
        found: Tensor | None = points
        return found

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
        images = images.to(self.device.replica.device)
        if not self.spec.network:
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
        """The references of the method, with their logits under the network that is explained."""
        known = self.references(self.spec.references(self.options))
        return known if known is None or other is None else References(known.images, other.forward(known.images))


def _map(steps: Steps) -> Generator[Request, Response, Tensor]:
    """Of an attribution the map alone, moved off the device."""
    result = yield from steps
    return result.map.cpu()


def _points(steps: Steps, count: int) -> Generator[Request, Response, Tensor | None]:
    """`count` of the points at which a method asks for gradients, evenly over all, or all where there are fewer."""
    found = Spread(count)
    try:
        request = next(steps)
        while True:
            if "gradient" in request.want:
                found.add(request.points)
            request = steps.send((yield request))
    except StopIteration:
        return found.points()


class Spread:
    """Of S points that come in parts, n that are spread evenly over all: `floor((i + .5) S / n)`, i = 0 ... n - 1.

    How many will come is known only at the end. So all are kept up to twice as many as are wanted; then every second
    one goes, and of those to come too, and so on. Places are exact for S up to 2n and else off by less than S / n.
    """

    _ROOM = 2

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[Tensor] = []
        self._every, self._first, self._seen = 1, 0, 0

    def add(self, points: Tensor) -> None:
        """Takes in the next points (n, ...)."""
        ahead = (self._first - self._seen) % self._every
        self._seen += len(points)
        # A copy, so that the points that go are not held in memory by those that stay.
        self._kept += [point.clone() for point in points[ahead :: self._every]]
        while len(self._kept) > self._ROOM * self._count:
            # In turn the first and the second of each two, so that neither end of the range is favoured.
            start = int(self._first < self._every // 2 or self._every == 1)
            self._first, self._every = self._first + start * self._every, 2 * self._every
            self._kept = self._kept[start::2]

    def points(self) -> Tensor | None:
        """(n, ...), n at most the number that is wanted; None where none came."""
        total = len(self._kept)
        wanted = min(self._count, total)
        places = [(2 * number + 1) * total // (2 * wanted) for number in range(wanted)]
        return torch.stack([self._kept[place] for place in places]) if total else None
