"""Methods, metrics and networks that are not ssig's own: files and installed packages, found, refused, agreed upon."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ssig
from ssig.errors import UsageError
from ssig.metrics.information.processes import in_order, shutdown
from ssig.models import export, load_model, restore
from ssig.registry import METHODS, METRICS, FileSource, PluginSource
from ssig.registry.catalogue import imported
from ssig.registry.sources import activate, plugins

METHOD = """
import torch
def double(model, images, targets, baselines, factor: float = 2.0):
    return factor * (images - baselines)
def ig(model, images, targets, baselines):
    return images
number = 3
"""
NETWORK = """
import networks
tiny = networks.tiny
"""


@pytest.fixture(autouse=True)
def adopted_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests adopt too, from folders that are gone."""
    for registry in (METHODS, METRICS):
        monkeypatch.setattr(registry, "_adopted", {})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(METHOD)
    return path


def install(folder: Path, name: str, version: str, points: str, code: str = "", module: str = "") -> None:
    """What `pip install --target` leaves of a distribution."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(points)
    if module:
        (folder / f"{module}.py").write_text(code)


def test_a_method_of_a_file_is_found_and_runs(mine: Path, images: Tensor, cnn: torch.nn.Module) -> None:
    result = ssig.attribute(cnn, images, range(5), f"{mine}:double", factor=3.0, baseline="black")
    assert torch.allclose(result.map, 3 * images.sum(dim=1))
    source = METHODS.source("double")
    assert source is not None
    digest = hashlib.sha256(METHOD.encode()).hexdigest()
    assert source.origin == {"file": "mine.py", "object": "double", "sha256": digest}
    assert "double" not in METHODS.names()


def test_a_method_of_a_file_is_shown(mine: Path) -> None:
    record = imported("method", f"{mine}:double")
    assert (record["name"], record["gradients"]) == ("double", None)
    assert "factor" in [option["name"] for option in record["options"]]


def test_an_edited_file_is_read_again(mine: Path) -> None:
    assert METHODS.find(f"{mine}:double").parse({}).factor == 2.0
    mine.write_text(METHOD.replace("2.0", "5.0"))
    assert METHODS.find(f"{mine}:double").parse({}).factor == 5.0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ig", METHOD, "already has a method"),
        ("absent", METHOD, "double"),
        ("number", METHOD, "a MethodSpec, or a function"),
        ("double", "import no_such_package", "installed packages only"),
        ("double", "1 / 0", "ZeroDivisionError"),
        ("double", "def double(", "SyntaxError"),
        ("double", "def double(model, images): ...", "takes model, images"),
        ("double", METHOD.replace("factor: float = 2.0", "factor"), "a default"),
        ("double", METHOD.replace("factor: float = 2.0", "factor: dict = {}"), "of type bool, int"),
        ("double", METHOD.replace("factor: float = 2.0", "smoothing=1"), "an option 'smoothing' already"),
    ],
)
def test_what_cannot_be_a_method_is_one_clear_line(mine: Path, name: str, content: str, says: str) -> None:
    mine.write_text(content)
    with pytest.raises(UsageError) as refused:
        METHODS.find(f"{mine}:{name}")
    assert says in refused.value.allowed
    assert f"{mine}:{name}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can be read"):
        METHODS.find(f"{tmp_path}/nowhere.py:f")
    with pytest.raises(UsageError, match=r"\./FILE\.py:NAME"):
        METHODS.find("nowhere:f")


def test_no_name_of_a_record_opens_a_file(mine: Path) -> None:
    with pytest.raises(UsageError):
        METHODS[f"{mine}:double"]


def test_a_plug_in_is_imported_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "[ssig.methods]\nplugged = plugged_code:double\nig = plugged_code:ig\nbroken = plugged_broken:f\n"
    install(tmp_path, "plugged-dist", "1.2", points, METHOD, "plugged_code")
    (tmp_path / "plugged_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    assert [source.distribution for source in plugins("method") if source.name == "plugged"] == ["plugged-dist"]
    assert "plugged_code" not in sys.modules
    assert "plugged" not in METHODS
    assert METHODS["plugged"].name == "plugged"
    assert "plugged_code" in sys.modules
    source = METHODS.source("plugged")
    assert source is not None
    assert source.origin == {"distribution": "plugged-dist", "version": "1.2", "object": "plugged_code:double"}
    assert METHODS["ig"].paper.startswith("Sundararajan")
    with pytest.raises(UsageError, match=r"importing it from plugged-dist 1\.2 failed: ZeroDivisionError"):
        METHODS["broken"]
    assert "ig" in METHODS.names()


def test_two_packages_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dist-a", "dist-b"):
        install(tmp_path, name, "1", "[ssig.metrics]\ntwice = some_module:f\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"dist-[ab] 1 and dist-[ab] 1 both have it"):
        METRICS["twice"]


def test_another_version_elsewhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "moved-dist", "2", "[ssig.methods]\nmoved = moved_code:double\n", METHOD, "moved_code")
    monkeypatch.syspath_prepend(tmp_path)
    activate([PluginSource("method", "moved", "moved-dist", "2", "moved_code:double")])
    with pytest.raises(UsageError, match=r"moved-dist 1 on every machine; .* has moved-dist 2"):
        activate([PluginSource("method", "moved", "moved-dist", "1", "moved_code:double")])
    with pytest.raises(UsageError, match="no such plug-in"):
        activate([PluginSource("method", "gone", "moved-dist", "1", "moved_code:double")])


def test_functions_of_a_file_run_on_worker_processes(tmp_path: Path) -> None:
    path = tmp_path / "work.py"
    path.write_text("def square(number):\n    return number ** 2\ndef measure(maps):\n    return maps.mean((1, 2))\n")
    METRICS.find(f"{path}:measure")
    square = FileSource.named("metric", f"{path}:square")
    assert square is not None
    path.unlink()  # its content travels
    try:
        assert list(in_order(square.load(), [(2,), (3,)], processes=1)) == [4, 9]
    finally:
        shutdown()


def test_a_network_of_a_file_travels_as_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mynet.py"
    path.write_text(NETWORK)
    model = load_model(f"{path}:tiny")
    state = export(model)
    path.write_text("1 / 0")
    again = restore(state)
    points = torch.rand(2, 3, *model.input_size)
    torch.testing.assert_close(model(points), again(points))
    assert again.source == model.source
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_model(f"{path}:tiny")


def test_a_network_of_a_package_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "net-dist", "3", "[ssig.models]\nmy-net = net_code:tiny\n", NETWORK, "net_code")
    monkeypatch.syspath_prepend(tmp_path)
    model = load_model("my-net")
    assert isinstance(model.source, PluginSource)
    assert restore(export(model)).weights_hash == model.weights_hash == load_model("networks:tiny").weights_hash
