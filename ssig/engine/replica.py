"""A network on a device, evaluated in micro-batches: scores, and their gradients by pixels or by a layer's output.

The replica never writes to the network. When the device runs out of memory, the micro-batch is halved for good, for
requests of that kind: attention takes more memory than gradients by pixels, and should not slow them.
On the CPU a micro-batch may be split among lanes (`ssig.engine.lanes`).

In float16 small gradients underflow, so the score is multiplied by a scale before differentiation, one scale for each
point (`ssig.engine.scaling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssig.engine.accelerators import forget, is_accelerator, mark, release_memory, to_host
from ssig.engine.arithmetic import arithmetic
from ssig.engine.graphs import Compute, Graphs
from ssig.engine.lanes import Lanes
from ssig.engine.layers import LAST_CONV, Network, captured, last_convolution, seen, side_by_side
from ssig.engine.scaling import HIGHEST, LOWER, directions, finite
from ssig.errors import ModelError, one_line
from ssig.estimators.transfer import to_device
from ssig.models.independence import check_modes
from ssig.models.model import Model
from ssig.models.outputs import logits_of
from ssig.models.scores import check_targets, score
from ssig.types import Response

# On the CPU more points at once do not fit the caches: EfficientNet-Lite0 is fastest at 4.
CPU_MICRO_BATCH, GPU_MICRO_BATCH = 4, 64

Check = Callable[[], None]

NO_GRADIENT = (
    "no gradient reaches the input: the network computes its logits under torch.no_grad or torch.inference_mode, "
    "or detaches, rounds or ranks what they are computed from"
)


class Replica:
    """Evaluates `model`, a callable from pixel-space points (n, C, H, W) to logits (n, classes).

    Args:
        model: the network; an `nn.Module` must be in evaluation mode.
        device: where it lives; by default the device of its first parameter or buffer, else the CPU.
        micro_batch: points evaluated at once; by default 4 on the CPU and 64 on a GPU.
        layout: memory format of the points. Every network takes the default.

    Attributes:
        keep: submodules whose outputs its optimised network has kept.
        lanes: of the network, or None to evaluate each micro-batch as a whole; may be set between calls.
        graphs: recordings of passes without a layer, or None; may be set between calls.
        takes_batches: whether the network takes two points at once; None if unknown.

    Raises:
        ModelError: a submodule is in training mode or normalises by the batch: images of a batch influence each other.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str | None = None,
        micro_batch: int | None = None,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if isinstance(model, nn.Module):
            check_modes(model)
        self.model = model
        self.device = torch.device(device) if device is not None else device_of(model)
        self._micro_batch = micro_batch or (GPU_MICRO_BATCH if is_accelerator(self.device) else CPU_MICRO_BATCH)
        # Key: layer and wanted outputs of the requests that were too large.
        self._halved: dict[tuple[str | None, frozenset[str]], int] = {}
        self.layout = layout
        self.keep: tuple[str, ...] = ()
        self.lanes: Lanes | None = None
        self.graphs: Graphs | None = None
        # A user's callable runs in the arithmetic that the user has set.
        self.precision = model.precision if isinstance(model, Model) else None
        self.takes_batches: bool | None = None
        self._compiled = getattr(model, "_compiled_call_impl", None) is not None
        # Key: shape of a point. For a small image the last feature map may be an earlier layer.
        self._last_convolutions: dict[torch.Size, str] = {}
        self._classes: dict[torch.Size, int] = {}
        # Checks of the evaluation under way.
        self._late: list[Check] = []

    @property
    def micro_batch(self) -> int:
        """Points evaluated at once, where memory suffices; may be set between calls."""
        return self._micro_batch

    @micro_batch.setter
    def micro_batch(self, points: int) -> None:
        if points != self._micro_batch:
            self._halved.clear()
        self._micro_batch = points

    def size(self, want: frozenset[str], layer: str | None = None) -> int:
        """Points evaluated at once in requests of one kind: `micro_batch`, or less if memory ran out before."""
        return self._halved.get((layer, want), self._micro_batch)

    def evaluate(
        self, points: Tensor, targets: Tensor, score_name: str, want: frozenset[str], layer: str | None = None
    ) -> Response:
        """Evaluates any number of points.

        Args:
            points: (n, C, H, W), on any device.
            targets: (n,) int64, on the CPU if they are to be checked; or (n, classes) weights, on any device.
            score_name: one of `ssig.models.scores.SCORES`.
            want: any of ``score``, ``gradient``, ``logits``.
            layer: takes the gradient at this layer's output instead of the points: name of a submodule, or one of the
                names of `ssig.engine.layers`.

        Raises:
            torch.OutOfMemoryError: a single point does not fit.
            ModelError: the layer does not exist, a target is not a class of the network, no gradient reaches the
                input, or the network takes one point at a time.
        """
        response, check = self.begin(points, targets, score_name, want, layer)
        if check is not None:
            check()
        return response

    def begin(
        self, points: Tensor, targets: Tensor, score_name: str, want: frozenset[str], layer: str | None = None
    ) -> tuple[Response, Check | None]:
        """As `evaluate`, but on an accelerator the response may lack gradients until its check has been called.

        The check waits for the device, so give the device more work before it. None if there is nothing to check.
        """
        parts: list[Response] = []
        checks: list[Check] = []
        done = 0
        while done < len(points):
            stop = min(done + self.size(want, layer), len(points))
            try:
                self._late.clear()
                parts.append(self._evaluate(points[done:stop], targets[done:stop], score_name, want, layer))
                checks += self._late
                self._late.clear()
                done = stop
                continue
            except torch.OutOfMemoryError as error:
                if self.graphs is not None and self.graphs.give_up():
                    continue
                if stop - done == 1:
                    raise
                forget(error)
            except Exception as error:
                if stop - done > 1 and self.lanes is None:
                    self._check_batches(points[done : done + 1], error)
                raise
            # Here the error is gone, and with it the tensors in its frames.
            self._halved[layer, want] = (stop - done) // 2
            release_memory(self.device)
        if len(parts) > 1:  # a check writes to its part
            while checks:
                checks.pop(0)()
        return join(parts), checks[0] if checks else None

    def forward(self, points: Tensor) -> Tensor:
        """Logits (n, classes) of any number of points, without gradients."""
        targets = torch.zeros(len(points), dtype=torch.int64)
        logits = self.evaluate(points, targets, "logit", frozenset({"logits"})).logits
        if logits is None:
            raise RuntimeError("no points to evaluate")
        return logits

    def _evaluate(
        self, points: Tensor, targets: Tensor, score_name: str, want: frozenset[str], layer: str | None
    ) -> Response:
        points = to_device(points.detach(), self.device).contiguous(memory_format=self.layout)
        if is_accelerator(self.device):
            self._check_targets(points, targets)
        targets = to_device(targets, self.device)
        with self._settings(layer):
            layer = self._named(layer, points)

            def compute(network: Network, points: Tensor, targets: Tensor) -> Response:
                return self._compute(network, points, targets, score_name, want, layer)

            if self.lanes is not None and len(points) > 1:  # all threads are for a single point
                return join(self.lanes.map(compute, points, targets))
            if self._scales(want):  # the pass is a part of the evaluation, and recorded there
                response = compute(self.model, points, targets)
            else:
                response = self._replayed(partial(compute, self.model), points, targets, (score_name, want), layer)
            return _copied(response) if self._compiled and layer is None and not self._late else response

    @contextmanager
    def _settings(self, layer: str | None) -> Iterator[None]:
        """The arithmetic of an evaluation; without compilation where a layer is captured."""
        # A compiled network does not call the hooks of its submodules.
        eager = torch.compiler.set_stance("force_eager") if self._compiled and layer is not None else nullcontext()
        with arithmetic(self.precision), eager:
            yield

    def _scales(self, want: frozenset[str]) -> bool:
        """Whether gradients are those of multiples of the scores, computed again where they overflow."""
        return self.precision == "fp16" and "gradient" in want

    def _replayed(
        self, compute: Compute, points: Tensor, targets: Tensor, kind: tuple[str, frozenset[str]], layer: str | None
    ) -> Response:
        """The answers of a pass of one kind (score, wanted outputs), from a recording where that is faster."""
        if self.graphs is None or layer is not None:
            return compute(points, targets)
        return self.graphs.evaluate(compute, points, targets, kind, self.size(kind[1]))

    def _check_batches(self, point: Tensor, error: Exception) -> None:
        """Raises a `ModelError` if the network takes a point (1, C, H, W), but not the same one twice."""
        if self.takes_batches is None:
            self.takes_batches = True
            try:
                self.forward(point)
                try:
                    self.forward(torch.cat([point, point]))
                except Exception:
                    self.takes_batches = False
            except Exception:  # it does not take this point at all
                self.takes_batches = None
        if self.takes_batches is False:
            raise ModelError(
                f"the network takes one point, but no batch of 2; try micro_batch 1 (in a job actors.micro_batch: 1): "
                f"{one_line(error)}"
            ) from error

    def _compute(
        self,
        network: Network,
        points: Tensor,
        targets: Tensor,
        score_name: str,
        want: frozenset[str],
        layer: str | None,
    ) -> Response:
        if "gradient" not in want:
            with torch.no_grad(), captured(network, layer, points) as outputs:
                logits = self._logits(network, points, targets)
                scores = score(logits, targets, score_name) if "score" in want else None
            return Response(
                scores=scores,
                logits=logits if "logits" in want else None,
                activations=None if layer is None else side_by_side(layer, seen(layer, outputs)).to(points.dtype),
            )
        if not self._scales(want):
            return self._differentiated(network, points, targets, score_name, want, layer)

        def scaled(points: Tensor, targets: Tensor) -> Response:
            return self._differentiated(network, points, targets, score_name, want, layer, HIGHEST)

        response = self._replayed(scaled, points, targets, (score_name, want), layer)
        if self._compiled:
            response = _copied(response)
        scores, gradients = response.scores, response.gradients
        if scores is None or gradients is None:
            raise RuntimeError("a response lacks the requested gradients")
        again = scores.isfinite() & ~finite(gradients)
        # The host must know whether gradients overflowed before a method adds them up. It would have to wait for the
        # device here; instead it asks later, when the device has its next work (`begin`).
        overflowed, known = to_host(again.any()), mark(self.device)

        def check() -> None:
            known.wait()
            if bool(overflowed):
                with self._settings(layer):
                    self._scale_down(network, points, targets, score_name, want, layer, response)

        if is_accelerator(self.device):
            self._late.append(check)
        else:
            check()
        return response

    def _scale_down(
        self,
        network: Network,
        points: Tensor,
        targets: Tensor,
        score_name: str,
        want: frozenset[str],
        layer: str | None,
        response: Response,
    ) -> None:
        """Takes the gradients of a response again that overflowed, with lower scales, and puts them in their place."""
        scores, gradients = cast(Tensor, response.scores), cast(Tensor, response.gradients)
        for highest in LOWER:
            again = scores.isfinite() & ~finite(gradients)
            if not bool(again.any()):
                break
            lower = self._differentiated(network, points[again], targets[again], score_name, want, layer, highest)
            gradients[again] = cast(Tensor, lower.gradients)

    def _differentiated(
        self,
        network: Network,
        points: Tensor,
        targets: Tensor,
        score_name: str,
        want: frozenset[str],
        layer: str | None,
        highest: float | None = None,
    ) -> Response:
        """Scores and gradients; with `highest`, gradients of multiples of the scores, divided again in float32."""
        with torch.enable_grad(), captured(network, layer, points) as outputs:
            points = points.detach().requires_grad_()
            logits = self._logits(network, points, targets)
            scores = score(logits, targets, score_name)
            variables = [points] if layer is None else seen(layer, outputs)
            if not scores.requires_grad:
                raise ModelError(NO_GRADIENT)
            derivatives: Sequence[Any]  # None for variables that the scores do not depend on
            if highest is None:
                derivatives = torch.autograd.grad(scores.sum(), variables, allow_unused=True)
                scales = None
            else:
                direction, scales = directions(logits, targets, score_name, highest)
                derivatives = torch.autograd.grad(logits, variables, direction, allow_unused=True)
        gradients = list(filter(torch.is_tensor, derivatives))
        if len(gradients) < len(variables):
            raise ModelError(NO_GRADIENT if layer is None else f"no gradient reaches the layer {layer!r}")
        values = side_by_side(layer, gradients).to(points.dtype)
        if scales is not None:
            values = values / scales.to(points.dtype).view(-1, *[1] * (values.ndim - 1))
        return Response(
            scores=scores.detach(),
            gradients=values.contiguous(),
            logits=logits.detach() if "logits" in want else None,
            activations=None if layer is None else side_by_side(layer, variables).detach().to(points.dtype),
        )

    def _check_targets(self, points: Tensor, targets: Tensor) -> None:
        """Refuses targets before they reach an accelerator, where one that is no class ends the process."""
        if points.shape[1:] not in self._classes:
            with torch.no_grad(), self._settings(LAST_CONV):  # one point is not worth compiling for
                self._logits(self.model, points[:1], torch.zeros(0, dtype=torch.int64))
        check_targets(targets, self._classes[points.shape[1:]])

    def _named(self, layer: str | None, points: Tensor) -> str | None:
        """`layer`, or the submodule that `LAST_CONV` stands for."""
        if layer != LAST_CONV:
            return layer
        if points.shape[1:] not in self._last_convolutions:
            self._last_convolutions[points.shape[1:]] = last_convolution(self.model, points[:1])
        return self._last_convolutions[points.shape[1:]]

    def _logits(self, network: Network, points: Tensor, targets: Tensor) -> Tensor:
        logits = logits_of(network(points), len(points))
        if logits.ndim != 2 or len(logits) != len(points):
            raise ModelError(f"the network gave {tuple(logits.shape)} for {len(points)} points; expected (n, classes)")
        self._classes[points.shape[1:]] = logits.shape[1]
        check_targets(targets, logits.shape[1])
        return logits if logits.dtype == torch.float64 else logits.float()


def join(parts: list[Response]) -> Response:
    """One response from the responses of consecutive points."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return torch.cat(tensors) if tensors and tensors[0] is not None else None

    return Response(joined("scores"), joined("gradients"), joined("logits"), joined("activations"))


def _copied(response: Response) -> Response:
    """A copy that the next call does not overwrite: CUDA graphs reuse the same memory."""

    def copied(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.clone()

    return Response(
        copied(response.scores), copied(response.gradients), copied(response.logits), copied(response.activations)
    )


def device_of(model: Callable[[Tensor], Tensor], otherwise: torch.device | str = "cpu") -> torch.device:
    """The device of a network's first parameter or buffer; `otherwise` for a network without any."""
    if isinstance(model, nn.Module):
        for tensor in chain(model.parameters(), model.buffers()):
            return tensor.device
    return torch.device(otherwise)
