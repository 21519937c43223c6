"""Errors of an accelerator told apart from others, and the self-check at a known point."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import networks
import pytest
import torch
from torch import Tensor, nn

from pipeline.driver.executor import failure_of
from pipeline.driver.schedule import Failure
from pipeline.unit.health import Health, is_device_error, known_point
from pipeline.unit.messages import DeviceFailedError, NoCudaError, Task
from pipeline.unit.placement import cuda_fault, device_for
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.errors import ModelError
from ssig.models import load_model

TASK = Task("u", "", (), ("ig",), "a", checked=True)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def during(error: Exception, other: Exception) -> Exception:
    """`error`, raised while another was handled."""
    error.__context__ = other
    return error


ASSERT = RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.AcceleratorError("an illegal memory access was encountered"), True),
        (ASSERT, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`"), True),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("CUDA driver error: unknown error"), True),
        (RuntimeError("NCCL Error 1: unhandled cuda error"), True),
        (RuntimeError("HIP error: an illegal memory access was encountered"), True),
        (caused(ModelError("the network failed"), ASSERT), True),
        (during(ValueError("while that was handled"), ASSERT), True),
        (caused(KeyError("x"), during(ValueError("y"), ASSERT)), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (during(ValueError("too large"), torch.OutOfMemoryError("CUDA out of memory")), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("Expected all tensors to be on the same device, but found cpu and cuda:0"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (ValueError("CUDA error: in a file name"), False),
        (OSError("no space left"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_of_a_device_are_told_apart(error: Exception, is_one: bool) -> None:
    assert is_device_error(error) is is_one


def test_errors_that_refer_to_each_other_are_looked_through_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert not is_device_error(first)


@pytest.fixture
def healthy() -> Iterator[Health]:
    model = load_model("networks:tiny")
    device = Device(Replica(model, micro_batch=2))
    yield Health(device, known_point(model), "GPU 3 of node-7")
    device.close()


def test_a_device_that_computes_what_the_cpu_does_passes(healthy: Health) -> None:
    assert healthy.known is not None
    assert healthy.known.gradient is not None
    assert float(healthy.known.gradient.norm()) > 0
    healthy.check()
    assert healthy.guarded(lambda task: task.unit, TASK) == "u"


def spoilt(spoil: Callable[[Tensor], Tensor]) -> Callable[[Any, Any, Tensor], Tensor]:
    return lambda module, inputs, logits: spoil(logits)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda logits: logits * 1.1, "10% of difference from the CPU in the logits at a known point .allowed: 2%."),
        (lambda logits: logits.detach() + 0.5 * (logits - logits.detach()), "50% of difference .* in the gradient"),
        (lambda logits: logits * float("nan"), "values that are not finite in the logits"),
    ],
)
def test_a_device_that_computes_wrongly_does_not(
    healthy: Health, spoil: Callable[[Tensor], Tensor], says: str
) -> None:
    network = healthy.device.replica.model
    assert isinstance(network, nn.Module)
    network.register_forward_hook(spoilt(spoil))
    with pytest.raises(DeviceFailedError, match=f"^GPU 3 of node-7 computes wrongly: .*{says}") as caught:
        healthy.guarded(lambda task: "not begun", TASK)
    assert failure_of(caught.value) is Failure.UNFIT


def test_an_error_at_the_self_check_is_one_of_the_device(healthy: Health) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    network = healthy.device.replica.model
    assert isinstance(network, nn.Module)
    network.register_forward_hook(spoilt(fail))
    with pytest.raises(
        DeviceFailedError, match="GPU 3 of node-7 failed at a self-check: AcceleratorError: CUDA error"
    ):
        healthy.check()


def raising(error: Exception) -> Callable[[Task], None]:
    def do(task: Task) -> None:
        raise error

    return do


def test_what_a_task_raises_is_told_apart(healthy: Health) -> None:
    with pytest.raises(DeviceFailedError, match="GPU 3 of node-7 failed: RuntimeError: CUDA error: dev") as caught:
        healthy.guarded(raising(ASSERT), TASK)
    assert failure_of(caught.value) is Failure.DEVICE
    for error, kind in ((ValueError("no layer"), Failure.RAISED), (OSError("no space"), Failure.STORAGE)):
        with pytest.raises(type(error)) as other:
            healthy.guarded(raising(error), TASK)
        assert failure_of(other.value) is kind


def test_a_device_that_fails_its_check_after_an_error_is_to_blame_for_it(healthy: Health) -> None:
    def do(task: Task) -> None:
        network = healthy.device.replica.model
        assert isinstance(network, nn.Module)
        network.register_forward_hook(spoilt(lambda logits: logits * 2))
        raise ValueError("strange numbers")

    with pytest.raises(DeviceFailedError, match=r"computes wrongly: .*, after ValueError: strange numbers") as caught:
        healthy.guarded(do, TASK)
    assert failure_of(caught.value) is Failure.DEVICE


def test_a_network_that_draws_random_numbers_is_not_compared() -> None:
    class Random(networks.Tiny):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points) + torch.rand(1)

    model = load_model("networks:tiny")
    model.network = Random().eval()
    known = known_point(model)
    assert (known.logits, known.gradient) == (None, None)


@pytest.mark.parametrize("error", [DeviceFailedError("GPU 0 failed"), DeviceFailedError("unfit", begun=False)])
def test_errors_reach_the_driver_as_they_are(error: DeviceFailedError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.begun) == (DeviceFailedError, str(error), error.begun)


no_cuda = pytest.mark.skipif(cuda_fault() is None, reason="CUDA can be used here")


def test_the_cpu_is_taken_where_no_gpu_is_asked_for() -> None:
    assert device_for("cpu", has_gpu=True) == device_for("cpu", has_gpu=False) == "cpu"
    assert device_for("auto", has_gpu=False) == "cpu"


@no_cuda
@pytest.mark.parametrize(("wish", "has_gpu"), [("auto", True), ("cuda", True), ("cuda", False)])
def test_a_gpu_without_cuda_is_refused_in_one_line(wish: Any, has_gpu: bool) -> None:
    with pytest.raises(
        NoCudaError, match=r"^actors\.device: found .*CUDA cannot be used on .*--set actors\.device=cpu$"
    ) as caught:
        device_for(wish, has_gpu=has_gpu)
    assert "\n" not in str(caught.value)
    assert type(pickle.loads(pickle.dumps(caught.value))) is NoCudaError


def test_a_build_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "is built without CUDA: install a build of torch with CUDA" in (cuda_fault() or "")


@no_cuda
def test_hidden_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES=''" in (cuda_fault() or "")
