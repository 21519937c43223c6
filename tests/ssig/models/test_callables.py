"""Networks as users bring them, each odd in one way: explained like any other, or refused in its own terms."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssig.errors import ModelError
from ssig.models import Model, ModelWarning, export, hash_state, load_model, restore
from ssig.models.checks import output_warnings
from ssig.models.hashing import canonical

SOURCE = '''
import warnings
from collections import namedtuple
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

class Tiny(nn.Module):
    input_size = (16, 16)
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)

    def __init__(self, classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return 5 * self.head(F.softplus(self.norm(self.conv(x))).mean((2, 3)))

@dataclass
class Out:
    loss: object
    logits: object

Auxiliary = namedtuple("Auxiliary", ["logits", "aux"])

class Shaped(Tiny):
    """A network whose output is put into another shape."""
    def __init__(self, shape, classes=5):
        super().__init__(classes)
        self.shape = shape
    def forward(self, x):
        return self.shape(super().forward(x))

def plain(): return Tiny()
def an_object(): return Shaped(lambda logits: Out(None, logits))
def a_dictionary(): return Shaped(lambda logits: {"logits": logits})
def a_tuple(): return Shaped(lambda logits: (logits, None))
def a_named_tuple(): return Shaped(lambda logits: Auxiliary(logits, None))
def a_map(): return Shaped(lambda logits: logits[..., None, None])
def halves(): return Tiny().half()
def doubles(): return Tiny().double()
def in_parallel(): return nn.DataParallel(Tiny())
def compiled(): return torch.compile(Tiny().eval())
def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Tiny().eval())
def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(Tiny().eval(), torch.zeros(1, 3, 16, 16))
for factory in (scripted, traced):  # which lose the attributes of their class
    factory.mean, factory.std, factory.input_size = Tiny.mean, Tiny.std, 16
def lazy():
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5))
    network.input_size = 16
    return network
def pruned():
    network = Tiny()
    prune.l1_unstructured(network.conv, "weight", 0.5)
    return network
def weight_normed():
    network = Tiny()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.head = nn.utils.weight_norm(network.head)
    return network
def parametrised():
    network = Tiny()
    nn.utils.parametrizations.weight_norm(network.head)
    nn.utils.parametrizations.spectral_norm(network.conv)
    return network
def exported():
    network = Tiny().eval()
    dynamic = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    program = torch.export.export(network, (torch.zeros(2, 3, 16, 16),), dynamic_shapes=dynamic).module()
    program.input_size = 16
    return program

class Extra(Tiny):
    def get_extra_state(self):
        return {"version": 3, "names": ["a", "b"], "scale": torch.tensor([1.5])}
    def set_extra_state(self, state):
        self.state = state
def extra_state(): return Extra()

class OneImage(Tiny):
    def forward(self, x):
        return self.head(F.softplus(self.conv(x)).mean((2, 3)).reshape(1, -1))
def one_image(): return OneImage()

def one_logit(): return Tiny(1)
def one_squeezed_logit(): return Shaped(lambda logits: logits.squeeze(-1), classes=1)
def one_logit_with_names():
    network = Tiny(1)
    network.categories = ["whole", "cracked"]
    return network
def one_logit_with_a_name():
    network = Tiny(1)
    network.categories = ["cracked"]
    return network
def names_by_number():
    network = Tiny(12)
    network.categories = {str(number): f"name {number}" for number in reversed(range(12))}
    return network

class Config:
    def __init__(self, id2label):
        self.id2label = id2label
def like_transformers():
    network = an_object()
    network.config = Config({number: f"name {number}" for number in range(5)})
    return network
def like_transformers_without_names():
    network = an_object()
    network.config = Config({number: f"LABEL_{number}" for number in range(5)})
    return network

def ends_in_softmax(): return Shaped(lambda logits: logits.softmax(1))
def ends_in_log_softmax(): return Shaped(lambda logits: logits.log_softmax(1))
def ends_in_sigmoid(): return Shaped(lambda logits: logits.sigmoid())
def of_0_to_255():
    network = Tiny()
    network.mean, network.std = [123, 117, 104], [58, 57, 57]
    return network
def not_finite():
    network = Tiny()
    with torch.no_grad():
        network.head.weight[0, 0] = float("nan")
    return network

def segmentation(): return nn.Conv2d(3, 4, 3)
def loss_alone(): return Shaped(lambda logits: {"loss": logits.sum()})
def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Tiny().eval(), {nn.Linear}, dtype=torch.qint8)
def drops(): return Shaped(lambda logits: F.dropout(logits, 0.5))
class Stubborn(Tiny):
    def train(self, mode=True):
        return super().train(True)
def stays_in_training(): return Stubborn()
class Batch(Tiny):
    def forward(self, x):
        return super().forward((x - x.min()) / (x.max() - x.min()))
def normalises_by_the_batch(): return Batch()
def without_statistics():
    network = Tiny()
    network.norm = nn.BatchNorm2d(8, track_running_stats=False)
    return network
'''

LIKE_PLAIN = [
    *(
        "an_object",
        "a_dictionary",
        "a_tuple",
        "a_named_tuple",
        "a_map",
        "in_parallel",
        "compiled",
        "scripted",
        "traced",
    ),
    *("extra_state", "weight_normed", "doubles"),
]
OTHERS = ["exported", "lazy", "pruned", "parametrised", "halves", "one_logit", "one_image"]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of these networks, another for each test so that none is cached."""
    name = f"odd_networks_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def loaded(name: str) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)
        return load_model(name)


def batch(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", LIKE_PLAIN)
def test_its_logits_are_those_of_the_plain_network(module: str, name: str) -> None:
    plain, odd = loaded(f"{module}:plain"), loaded(f"{module}:{name}")
    torch.testing.assert_close(odd(batch()), plain(batch()), rtol=1e-4, atol=1e-4)
    assert odd.categories == plain.categories


@pytest.mark.parametrize("name", LIKE_PLAIN + OTHERS)
def test_it_loads_the_same_again_and_travels_to_workers(module: str, name: str) -> None:
    count = 1 if name == "one_image" else 2
    model = loaded(f"{module}:{name}")
    again = loaded(f"{module}:{name}")
    twin = restore(pickle.loads(pickle.dumps(export(model))))
    assert again.weights_hash == model.weights_hash == hash_state(twin)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    points = batch(count).requires_grad_()
    assert torch.equal(twin(batch(count)), model(batch(count)))
    (gradient,) = torch.autograd.grad(twin(points)[:, 0].sum(), points)
    assert gradient.abs().sum() > 0
    assert (twin.warnings, twin.input_source, twin.one_at_a_time) == (
        model.warnings,
        model.input_source,
        model.one_at_a_time,
    )


def test_one_image_at_a_time_is_recorded(module: str) -> None:
    assert loaded(f"{module}:one_image").one_at_a_time
    assert not loaded(f"{module}:plain").one_at_a_time


@pytest.mark.parametrize("name", ["one_logit", "one_squeezed_logit"])
def test_one_logit_is_two_classes(module: str, name: str) -> None:
    model = loaded(f"{module}:{name}")
    logits = model(batch(4))
    raw = model.network((batch(4) - 0.5) / 0.25).reshape(-1)
    torch.testing.assert_close(logits.softmax(1)[:, 1], torch.sigmoid(raw))
    assert model.categories == ("class 0", "class 1")
    assert any("treated as a sigmoid" in warning for warning in model.warnings)
    assert loaded(f"{module}:one_logit_with_names").categories == ("whole", "cracked")
    assert loaded(f"{module}:one_logit_with_a_name").categories == ("not cracked", "cracked")


def test_names_may_go_by_number(module: str) -> None:
    assert loaded(f"{module}:names_by_number").categories == tuple(f"name {number}" for number in range(12))
    assert loaded(f"{module}:like_transformers").categories == tuple(f"name {number}" for number in range(5))
    unnamed = loaded(f"{module}:like_transformers_without_names")
    assert unnamed.categories == tuple(f"class {number}" for number in range(5))


@pytest.mark.parametrize(
    ("name", "warning"),
    [
        ("ends_in_softmax", "outputs are non-negative and sum to 1: logits are expected"),
        ("ends_in_sigmoid", r"all outputs lie in \[0, 1\]: logits are expected"),
        ("of_0_to_255", r"mean is outside \[0, 1\]: images are in \[0, 1\] \(found 123, 117, 104"),
        ("not_finite", "3 of 15 logits of ordinary images are not finite"),
        ("halves", "weights are float16: the network runs in float32"),
        ("doubles", "weights are float64"),
    ],
)
def test_what_is_odd_is_said(module: str, name: str, warning: str) -> None:
    with pytest.warns(ModelWarning, match=warning):
        model = load_model(f"{module}:{name}")
    assert len(model.warnings) == 1


@pytest.mark.parametrize("name", ["plain", "ends_in_log_softmax", "one_image", "exported"])
def test_nothing_is_said_of_others(module: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        assert load_model(f"{module}:{name}").warnings == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segmentation", r"gave no logits \(1, classes\)"),
        ("loss_alone", "returned a dict of loss; let it return its logits"),
        ("quantised", r"a quantised network has no gradients \(head is a .*Linear\)"),
        ("drops", "is random in evaluation mode"),
        ("stays_in_training", "is in training mode"),
        ("normalises_by_the_batch", "mixes the images of a batch"),
        ("without_statistics", "'network.norm' is a BatchNorm2d without running statistics"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_its_own_terms(module: str, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(f"{module}:{name}")
    assert str(caught.value).startswith(f"{module}:{name}: ")
    assert "\n" not in str(caught.value)


def test_outputs_of_few_points_tell_probabilities_from_logits() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0], [1.0, 1.0, -4.0]])
    assert output_warnings(logits) == ()
    assert output_warnings(logits.log_softmax(1)) == ()
    assert output_warnings(logits.relu()) == ()
    assert "sum to 1" in output_warnings(logits.softmax(1))[0]
    assert "lie in [0, 1]" in output_warnings(logits.sigmoid())[0]


CANONICAL = """
import torch
from ssig.models.hashing import canonical
class Thing: pass
print(canonical({"b": [1, 2.5, None, True], "a": {"x", "y", "z"}, 3: torch.arange(3), "o": Thing()}).hex())
"""


def test_extra_state_has_one_byte_string_in_every_process() -> None:
    runs = [
        subprocess.run([sys.executable, "-c", CANONICAL], capture_output=True, check=True, env=environment)
        for environment in (
            {"PYTHONHASHSEED": "1", "PYTHONPATH": path()},
            {"PYTHONHASHSEED": "2", "PYTHONPATH": path()},
        )
    ]
    assert runs[0].stdout == runs[1].stdout
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1})
    different = [1, "1", 1.0, True, [1], [[1]], [1, 1], {"1": 1}, b"1", None, torch.ones(1), torch.ones(1, 1)]
    assert len({canonical(value) for value in different}) == len(different)
    assert canonical(["a", "bc"]) != canonical(["ab", "c"])


def path() -> str:
    return str(Path(__file__).resolve().parents[3])
