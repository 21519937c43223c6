"""A ready replica gives the maps of the plain network, and its micro-batch is measured once."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ssig import attribute, list_methods, load_model
from ssig.acceleration.optimise import optimised
from ssig.acceleration.ready_replica import ready_replica
from ssig.acceleration.tuning import TuningCache
from ssig.engine.replica import Replica
from ssig.models import Model
from ssig.registry import METHODS

SMALL = 96  # pixels: convolutions in float64 are slow
# Which feature or region moves next hangs on the last bit of a gradient: in float32 such maps follow another path.
CHAOTIC = {"guided-ig", "idgi-guided", "agi", "xrai"}
# Differences of nearly equal blurred images carry what little the gradients differ by.
SENSITIVE = {"blur-ig"}
COMPARED = [spec.name for spec in list_methods() if not spec.attention and not spec.references(spec.parse({}))]


@pytest.fixture(scope="module")
def lite0() -> Model:
    return load_model("efficientnet-lite0")


@pytest.fixture(scope="module")
def photographs(lite0: Model) -> Tensor:
    from pipeline.shards.photographs import PHOTOGRAPHS

    pictures = [Image.open(io.BytesIO(one.file.read_bytes())).convert("RGB") for one in PHOTOGRAPHS[:2]]
    return torch.stack([lite0.preprocess(picture) for picture in pictures])


@pytest.fixture(scope="module")
def exact(lite0: Model) -> tuple[Model, Replica]:
    """The plain network in float64, and a replica of its optimised copy, for small images."""
    plain = copy.deepcopy(lite0).double()
    noise = torch.rand(1, 3, SMALL, SMALL, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return plain, Replica(optimised(plain, noise).network, micro_batch=2)


@pytest.fixture(scope="module")
def fast(lite0: Model) -> Replica:
    return ready_replica(lite0, micro_batch=2)


def spearman(first: Tensor, second: Tensor) -> float:
    ranks = [values.flatten(1).argsort(dim=1).argsort(dim=1).double() for values in (first, second)]
    return float(min(torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*ranks, strict=True)))


def clock() -> Callable[[], float]:
    """A clock that moves on by itself: what is measured with it is the number of calls."""
    ticks = iter(range(10**9))
    return lambda: float(next(ticks))


def few(method: str) -> dict[str, int]:
    """Options that make a method cheap."""
    spec = METHODS[method]
    least = 8 if method == "spi-p" else 4  # a sample for each of its paths
    return {name: least for name in ("samples", "steps") if hasattr(spec.parse({}), name)}


@pytest.mark.slow
@pytest.mark.parametrize("method", COMPARED)
def test_maps_are_those_of_the_plain_network(exact: tuple[Model, Replica], photographs: Tensor, method: str) -> None:
    """In float64, where nothing but the optimisation itself could make a difference."""
    small = interpolate(photographs[:1], (SMALL, SMALL), mode="area").double()
    expected, found = (attribute(network, small, [281], method, **few(method)).map for network in exact)
    assert (found - expected).norm() <= 1e-8 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("method", COMPARED)
def test_maps_in_float32_are_those_of_the_plain_network_up_to_kinks(
    lite0: Model, fast: Replica, photographs: Tensor, method: str
) -> None:
    plain, found = (
        attribute(network, photographs, [281, 967], method, **few(method)).map for network in (lite0, fast)
    )
    distance = (found - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1).clamp_min(1e-30)
    if method in CHAOTIC:
        assert spearman(found, plain) >= 0.5
    else:
        assert float(distance.median()) <= (2e-2 if method in SENSITIVE else 5e-3)
        assert spearman(found, plain) >= 0.999


@pytest.mark.slow
def test_maps_in_low_precision_keep_their_order(photographs: Tensor, lite0: Model) -> None:
    low = ready_replica(load_model("efficientnet-lite0", precision="bf16"), micro_batch=2)
    plain = attribute(lite0, photographs, [281, 967], "ssig", samples=16).map
    found = attribute(low, photographs, [281, 967], "ssig", samples=16).map
    assert found.dtype == torch.float32
    assert spearman(found, plain) >= 0.95


def test_a_size_is_measured_once_for_equal_circumstances(lite0: Model) -> None:
    sizes = TuningCache()
    first = ready_replica(lite0, sizes=sizes, timer=clock())
    assert len(sizes.dump()) == 1
    stopped: Callable[[], float] = lambda: pytest.fail("measured again")  # noqa: E731
    assert ready_replica(lite0, sizes=sizes, timer=stopped).micro_batch == first.micro_batch
    assert ready_replica(lite0, micro_batch=3, sizes=sizes, timer=stopped).micro_batch == 3


def test_without_a_gpu_cuda_graphs_are_left_out_with_a_warning(lite0: Model, caplog: pytest.LogCaptureFixture) -> None:
    replica = ready_replica(lite0, micro_batch=2, compile="cuda-graphs")
    assert replica.graphs is None
    assert not replica._compiled
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "efficientnet-lite0 runs without CUDA graphs (actors.compile: cuda-graphs): they need a GPU"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_recorded_passes_give_the_maps_of_the_plain_network(photographs: Tensor, precision: str) -> None:
    """Tuned with recordings; the last micro-batches are not full."""
    plain = load_model("efficientnet-lite0", device="cuda")
    model = load_model("efficientnet-lite0", device="cuda", precision=precision)
    replica = ready_replica(model, compile="cuda-graphs")
    expected = attribute(plain, photographs, [281, 967], "ssig", samples=37, ready=False).map.cpu()
    found = attribute(replica, photographs, [281, 967], "ssig", samples=37).map.cpu()
    assert spearman(found, expected) >= (0.999 if precision == "fp32" else 0.95)
