"""Pretrained weights when nothing answers: one line, from the cache if it is there."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ssig.errors import ModelError
from ssig.models import hub, load_model

ROOT = Path(__file__).resolve().parents[3]

# Nothing listens on port 9, so every request through this proxy is refused at once.
NOWHERE = "http://127.0.0.1:9"

SCRIPT = """
import sys
from ssig.errors import ModelError
from ssig.models import load_model
for name in sys.argv[1:]:
    try:
        print(load_model(name).weights_hash)
    except ModelError as error:
        print(error)
"""


def offline(folder: Path, *names: str) -> list[str]:
    """What loading prints, line by line, where no host can be reached and `folder` is the cache."""
    proxies = {f"{scheme}_proxy": NOWHERE for scheme in ("http", "https", "all", "HTTP", "HTTPS", "ALL")}
    proxies |= {"ALL_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE, "no_proxy": "", "NO_PROXY": ""}
    caches = {"HF_HOME": str(folder), "HF_HUB_CACHE": str(folder / "hub"), "TORCH_HOME": str(folder / "torch")}
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "HF_ENDPOINT")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *names],
        env={**environment, **proxies, **caches, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,  # the hub's own retries take longer
    )
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr
    return done.stdout.splitlines()


def test_unreachable_weights_are_one_line_and_cached_ones_load(tmp_path: Path) -> None:
    cached = load_model("timm:test_efficientnet.r160_in1k", "random")
    repository = tmp_path / "hub" / "models--timm--test_efficientnet.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    state = {name: tensor.contiguous() for name, tensor in cached.network.state_dict().items()}
    safetensors.torch.save_file(state, snapshot / "model.safetensors")

    names = ["timm:resnet18", "torchvision:squeezenet1_1", "timm:gcvit_tiny", "timm:test_efficientnet.r160_in1k"]
    *failures, found = offline(tmp_path, *names)
    assert found == cached.weights_hash
    assert len(failures) == 3
    for name, line in zip(names, failures, strict=False):
        assert line.startswith(name)
        assert "pretrained weights could not be loaded" in line
        assert "give a local checkpoint as weights, or weights: random" in line


def test_a_damaged_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"cut")
    with pytest.raises(ModelError, match="torchvision:squeezenet1_1 IMAGENET1K_V1: pretrained weights could not"):
        load_model("torchvision:squeezenet1_1")


class Calls:
    """Something whose pickle calls a function when it is read."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


# Read as tensors alone, these slots are a `TypeError`, after which timm would read the file again, with code in it.
SLOTS = Calls(OrderedDict, (), (None, {}))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which `torch.hub` looks for files that it has downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize(
    ("name", "file", "first", "reason"),
    [
        ("torchvision:squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", 0, r"the file holds pickled code \(posix.mkdir\)"),
        ("timm:gcvit_xxtiny", "gcvit_xxtiny_224_nvidia-d1d86009.pth", 0, r"holds pickled code \(posix.mkdir\)"),
        ("timm:gcvit_xxtiny", "gcvit_xxtiny_224_nvidia-d1d86009.pth", SLOTS, "TypeError"),
    ],
)
def test_code_in_a_cached_download_is_not_run(
    name: str,
    file: str,
    first: object,
    reason: str,
    variable: str | None,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, "1")
    before = dict(os.environ)
    torch.save({"first": first, "second": Calls(os.mkdir, (str(cache / "sprung"),))}, cache / file)
    with pytest.raises(ModelError, match=reason) as caught:
        load_model(name)
    assert "weights_only" not in str(caught.value)
    assert not (cache / "sprung").exists()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision:squeezenet1_1", "squeezenet1_1-b8a52dc0.pth"),
        ("torchvision:googlenet", "googlenet-1378be20.pth"),  # loses its auxiliary heads, transforms its input
    ],
)
@pytest.mark.filterwarnings("ignore:auxiliary heads")
def test_a_cached_state_dict_gives_what_the_same_checkpoint_gives(name: str, file: str, cache: Path) -> None:
    drawn = load_model(name, "random")
    entries = drawn.network.state_dict().items()
    torch.save({entry: value + 0.01 if value.is_floating_point() else value for entry, value in entries}, cache / file)
    model, given = load_model(name), load_model(name, cache / file)
    batch = torch.rand(1, 3, *model.input_size)
    assert torch.equal(model(batch), given(batch))
    assert not torch.equal(model(batch), drawn(batch))


def test_any_answer_means_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class NotFound(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            """Silence."""

    with http.server.HTTPServer(("127.0.0.1", 0), NotFound) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert hub.reachable(f"http://127.0.0.1:{server.server_port}/file")
        server.shutdown()
        thread.join()
    assert not hub.reachable(f"http://127.0.0.1:{server.server_port}/file")
