"""The catalogue says what the registries hold, refuses what they refuse, and lists what other packages bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.commands.catalogue import text
from ssig.errors import UsageError
from ssig.options import describe
from ssig.registry import catalogue
from ssig.registry.catalogue import METHOD, METRIC, REGISTRIES, check, imported, options_of, plugins, records


def test_it_is_that_of_the_registries() -> None:
    written = catalogue.PATH.read_text(encoding="utf-8")
    assert written == text(), "ssig/registry/catalogue.json is old: run `python -m jobs.commands.catalogue`"


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("hires-cam", "relu"),
        ("score-cam", "channels"),
        ("rise", "samples"),
        ("samp", "steps"),
        ("samp++", "steps"),
        ("samp++", "fragments"),
        ("spi", "per_channel"),
        ("mfaba", "steps"),
    ],
)
def test_a_default_that_is_not_the_papers_says_so(method: str, option: str) -> None:
    record = records(METHOD)[method]
    (doc,) = [given for given in options_of(record) if given.name == option]
    assert "paper" in doc.doc or "authors' code" in doc.doc
    (given,) = {values[option] for values in record["presets"].values() if option in values}
    assert given != doc.default


@pytest.mark.parametrize("kind", [METHOD, METRIC])
def test_its_options_are_those_of_the_entries(kind: str) -> None:
    assert list(records(kind)) == REGISTRIES[kind].names()
    for spec in REGISTRIES[kind]:
        assert options_of(records(kind)[spec.name]) == describe(spec.options)


@pytest.mark.parametrize(
    ("kind", "name", "given", "field", "nearest"),
    [
        (METHOD, "sigg", {}, "method", "ssig"),
        (METHOD, "SSIG-Signed", {}, "method", "ssig-signed"),
        (METHOD, "qqqqqqq", {}, "method", None),
        (METRIC, "deltion", {}, "metric", "deletion"),
        (METHOD, "Guided_IG", {}, "method", "guided-ig"),
        (METHOD, "ssig", {"n_samples": 3}, "methods.ssig.n_samples", "samples"),
        (METHOD, "ssig", {"samples": "aut"}, "methods.ssig.samples", "auto"),
        (METHOD, "ssig", {"samples": 0}, "methods.ssig.samples", None),
        (METHOD, "ig", {"rule": "gauss-legendr"}, "methods.ig.rule", "gauss-legendre"),
        (METHOD, "ig", {"preset": "papr"}, "methods.ig.preset", "paper"),
        (METHOD, "ig", {"preset": ["paper"]}, "methods.ig.preset", None),
        (METRIC, "insertion", {"stepz": 3}, "metrics.insertion.stepz", "steps"),
    ],
)
def test_what_is_wrong_gets_the_nearest_name_that_is_known(
    kind: str, name: str, given: dict[str, object], field: str, nearest: str | None
) -> None:
    with pytest.raises(UsageError) as caught:
        check(kind, name, given)
    assert (caught.value.field, caught.value.nearest) == (field, nearest)
    assert (f"did you mean {nearest}?" in str(caught.value)) == (nearest is not None)


def test_what_is_right_is_taken() -> None:
    check(METHOD, "ig", {"preset": "paper", "steps": 7, "baseline": [0, 0.5, 1]})
    check(METRIC, "deletion", {})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages; `my-methods` brings one method, one that ssig has, and one that fails."""
    folder = tmp_path / "my_methods-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 1.2\n")
    points = ("mine = my_module:mine", "ig = my_module:ig", "broken = module_that_is_not_there:method")
    (folder / "entry_points.txt").write_text("\n".join(["[ssig.methods]", *points]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_packages_that_bring_methods_are_listed_and_not_imported() -> None:
    found = {plugin.name: plugin for plugin in plugins(METHOD) if plugin.package == "my-methods"}
    assert list(found) == ["broken", "ig", "mine"]
    assert found["mine"] == catalogue.Plugin("mine", "my-methods", "1.2")
    assert found["ig"].problem == "ssig has a method of this name"
    assert not any(plugin.package == "my-methods" for kind in (METRIC, "model") for plugin in plugins(kind))


@pytest.mark.usefixtures("installed")
def test_a_name_that_a_package_brings_is_known_and_suggested() -> None:
    check(METHOD, "broken", {"any": "option"})
    with pytest.raises(UsageError, match=r"did you mean broken\?"):
        check(METHOD, "brokn", {})
    with pytest.raises(UsageError, match=r"importing it from my-methods 1\.2 failed"):
        imported(METHOD, "broken")


def test_metadata_that_cannot_be_read_is_one_entry(installed: Path) -> None:
    (installed / "my_methods-1.2.dist-info" / "entry_points.txt").write_text("[ssig.methods]\nno equals sign\n")
    (problem,) = [plugin.problem for plugin in plugins(METHOD) if plugin.problem is not None]
    assert problem.startswith("unreadable metadata")
    assert [plugin for plugin in plugins(METRIC) if plugin.problem is not None] == []
