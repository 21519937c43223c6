"""Whether a device works: errors of an accelerator told apart from others, and a self-check at one known point.

After some errors, such as an illegal access or an assert on the device, every later call of the process fails too. So
the process has to end, and the images that it worked on are not to blame.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from pipeline.run.publishing import DamagedTableError
from pipeline.unit.messages import DeviceFailedError, Task
from ssig.engine.device import Device
from ssig.engine.micro_batches import Job
from ssig.engine.replica import Replica
from ssig.errors import one_line
from ssig.models import Model
from ssig.types import Request, Response

# Words of errors that libraries of an accelerator raise as a plain `RuntimeError`, in lower case.
DEVICE_ERRORS = (
    "cuda error",
    "cuda driver error",
    "cuda unknown error",
    "cuda kernel errors",
    "hip error",
    "cublas_status_",
    "cusolver_status_",
    "cusparse_status_",
    "cufft_",
    "cudnn_status_execution_failed",
    "cudnn_status_internal_error",
    "cudnn_status_mapping_error",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "uncorrectable ecc error",
    "nccl error",
    "ncclunhandledcudaerror",
    "ncclsystemerror",
)
# Largest difference of logits and gradients from those of the CPU in float32, over the norm of the latter. They tell a
# device that computes wrongly from one that rounds.
TOLERANCES = {"fp32": 0.02, "tf32": 0.1, "fp16": 0.2, "bf16": 0.5}
# Two evaluations on the CPU that differ more come from a network that draws random numbers.
REPEATABLE = 1e-3
SEED = 0
WANTED = frozenset({"score", "gradient", "logits"})

Result = TypeVar("Result")


def is_device_error(error: BaseException) -> bool:
    """Whether an accelerator raised an error, or one that led to it.

    A lack of memory on the device is none: the next, smaller call succeeds.
    """
    chain: list[BaseException] = [error]
    for link in chain:
        if isinstance(link, RuntimeError) and not isinstance(link, torch.OutOfMemoryError):
            text = str(link).lower()
            if isinstance(link, torch.AcceleratorError) or any(words in text for words in DEVICE_ERRORS):
                return True
        causes = (link.__cause__, link.__context__)
        chain += [cause for cause in causes if cause is not None and not any(cause is seen for seen in chain)]
    return False


@dataclass(frozen=True)
class KnownPoint:
    """A point and what the CPU computes there in float32.

    Attributes:
        point: (1, C, H, W) in [0, 1].
        target: (1,) int64, the class of the score.
        logits: (1, classes); None where the CPU gives no finite or no repeatable values.
        gradient: (1, C, H, W), of the target's logit; None likewise.
    """

    point: Tensor
    target: Tensor
    logits: Tensor | None = None
    gradient: Tensor | None = None


def known_point(model: Model) -> KnownPoint:
    """A known point of a network on the CPU: its mean colour with a little noise.

    Args:
        model: on the CPU; it is not changed.
    """
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(1, len(model.mean), *model.input_size, generator=generator)
    point = (model.mean.cpu().view(1, -1, 1, 1) + 0.1 * noise).clamp(0, 1).to(model.mean.dtype)
    target = torch.zeros(1, dtype=torch.int64)
    plain = copy.copy(model)
    plain.precision = "fp32"
    try:
        replica = Replica(plain, device="cpu", micro_batch=1)
        target = replica.forward(point).argmax(dim=1)
        first, second = (replica.evaluate(point, target, "logit", WANTED) for _ in range(2))
    except Exception:  # of the network, or of memory; where it matters, the trial of the methods has reported it
        return KnownPoint(point, target)
    if first.logits is None or first.gradients is None or second.logits is None or second.gradients is None:
        raise RuntimeError("a response lacks what was requested")
    pairs = ((second.logits, first.logits), (second.gradients, first.gradients))
    if not all(bool(value.isfinite().all()) and difference(value, other) <= REPEATABLE for value, other in pairs):
        return KnownPoint(point, target)
    return KnownPoint(point, target, first.logits, first.gradients)


def difference(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over the norm of `expected`, of equal shapes; 0 where `expected` is 0."""
    norm = expected.double().norm()
    return float((found.cpu().double() - expected.double()).norm() / norm) if norm > 0 else 0.0


@dataclass(frozen=True)
class Health:
    """The self-check of a worker's device.

    Attributes:
        device: the worker's.
        known: a point with what the CPU computes there; None to check nothing.
        name: of the device, for messages, such as ``GPU 0 of node-7``.
    """

    device: Device
    known: KnownPoint | None
    name: str

    def check(self) -> None:
        """Evaluates the network at the known point, and compares with what the CPU computes there.

        Raises:
            DeviceFailedError: an error, values that are not finite, or values unlike the CPU's. `begun` is False.
        """
        if self.known is None:
            return
        try:
            fault = self._fault(self.known)
        except Exception as error:
            raise DeviceFailedError(f"{self.name} failed at a self-check: {one_line(error)}", begun=False) from None
        if fault:
            raise DeviceFailedError(f"{self.name} computes wrongly: {fault}", begun=False)

    def guarded(self, do: Callable[[Task], Result], task: Task) -> Result:
        """`do(task)`, after a self-check if the task wants it.

        Raises:
            DeviceFailedError: the device failed during the task (`begun`) or at the self-check before it.
            Exception: what `do` raised, with the device at work; where the task wants it, after another self-check.
        """
        if task.checked:
            self.check()
        try:
            return do(task)
        except Exception as error:
            if is_device_error(error):
                raise DeviceFailedError(f"{self.name} failed: {one_line(error)}") from None
            if task.checked and not isinstance(error, (OSError, DamagedTableError)):
                self._check_after(error)
            raise

    def _check_after(self, error: Exception) -> None:
        try:
            self.check()
        except DeviceFailedError as failed:
            raise DeviceFailedError(f"{failed}, after {one_line(error)}") from None

    def _fault(self, known: KnownPoint) -> str:
        """What is wrong at the known point; empty if nothing is."""
        (response,) = self.device.run([Job(None, _evaluation(known.point), known.target, "logit")])
        precision = self.device.replica.precision or "fp32"
        for what, found, expected in (
            ("logits", response.logits, known.logits),
            ("gradient", response.gradients, known.gradient),
        ):
            if expected is None:
                continue
            if not bool(found.isfinite().all()):
                return f"values that are not finite in the {what} at a known point"
            relative, most = difference(found, expected), TOLERANCES[precision]
            if relative > most:
                return (
                    f"{relative:.0%} of difference from the CPU in the {what} at a known point (allowed: {most:.0%})"
                )
        return ""


def _evaluation(point: Tensor) -> Generator[Request, Response, Response]:
    response = yield Request(point, torch.zeros(1, dtype=torch.int64), want=WANTED)
    return response
