"""Job files that are wrong, and whose word is taken for code: each case with the one line that it gets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.driver.added_metrics import add_metrics
from pipeline.job.configuration import LONGEST_LABELS, Job, load_evaluation, load_job
from pipeline.run.trust import import_from_working_folder, owner_of, refuse_foreign_code
from pipeline.storage import open_storage
from ssig.errors import UsageError

Make = Callable[..., Any]
GOOD = {"dataset": {"shards": ["a.tar"]}, "output": {"path": "run"}}
START = "dataset: {shards: [a.tar]}\noutput: {path: run}\n"


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        (b"\xff\xfe\x00", "job file", "readable YAML"),
        (b"seed: !!int x\n", "job file", "invalid literal"),
        (b"seed: " + b"9" * 5000 + b"\n", "job file", "readable YAML"),
        (b"a: " * 3000, "job file", "readable YAML"),
        (b"[" * 2000, "job file", "readable YAML"),
        (b"seed: [1, 2\nmodel: 3\n", "job file", "line 2, column 6 does not fit what stands before"),
        (b"seed: !!python/object/apply:os.system ['true']\n", "job file", "could not determine a constructor"),
        (b"a: 1\n---\nb: 2\n", "job file", "single document"),
        (b"just words\n", "job file", "a YAML mapping of dataset"),
        (b"? [1, 2]\n: 3\n", "job file", "readable YAML"),
    ],
)
def test_what_is_no_job_file_is_one_line(text: bytes, field: str, allowed: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert caught.value.field == field
    assert caught.value.found == str(path)
    assert allowed in caught.value.allowed
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "field", "found", "allowed"),
    [
        ("seed: true", "seed", True, "a whole number"),
        ("seed: '7'", "seed", "7", "a whole number"),
        ("seed: 7.0", "seed", 7.0, "a whole number"),
        ("seed: 99999999999999999999", "seed", 99999999999999999999, "from 0 to 2^63 - 1"),
        ("seed: null", "seed", None, "a whole number"),
        ("unit_size: 0", "unit_size", 0, "from 1 to 4096"),
        ("unit_size: 100000", "unit_size", 100_000, "from 1 to 4096"),
        ("model: {target: true}", "model.target", True, "one of label, predicted, or a whole number, at least 0"),
        ("model: {target: -1}", "model.target", -1, "one of label, predicted, or a whole number, at least 0"),
        ("model: resnet50", "model", "resnet50", "a mapping of name, weights"),
        ("model: {name: [a]}", "model.name", ["a"], "text"),
        ("model: {label: ''}", "model.label", "", "non-empty text or null"),
        ("model: {weigths: a.pt}", "model.weigths", "a.pt", "one of name, weights"),
        ("actors: {num_cpus: .inf}", "actors.num_cpus", float("inf"), "a number, above 0, or auto"),
        ("actors: {num_gpus: -1}", "actors.num_gpus", -1, "a number, at least 0, or auto"),
        ("actors: {max: true}", "actors.max", True, "a whole number"),
        ("methods: ig", "methods", "ig", "a list such as [NAME"),
        ("methods: [[ig]]", "methods.0", ["ig"], "NAME, or {name: NAME"),
        ("methods: [{name: ig, 3: 4}]", "methods.0.options.3", 3, "names that are text"),
        ("methods: [{name: ig, steps: true}]", "methods.ig.steps", True, "a whole number"),
        ("methods: [{name: ig, steps: .nan}]", "methods.ig.steps", None, "a whole number"),
        ("methods: [{name: ssig, samples: 99999999999999999999999}]", None, None, None),
        ("metrics: [{name: insertion, steps: {}}]", "metrics.insertion.steps", {}, "a whole number"),
        ("metrics: {insertion: 3}", "metrics", {"insertion": 3}, "a list such as"),
    ],
)
def test_wrong_values_name_field_found_and_allowed(
    line: str, field: str | None, found: object, allowed: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(START + line + "\n")
    if field is None:  # large, and allowed
        load_job(path)
        return
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert caught.value.field.removeprefix("job.yaml: ") == field
    assert found is None or caught.value.found == found
    assert str(allowed) in caught.value.allowed
    assert repr(found)[:20] in str(caught.value) or found is None


def test_labels_that_make_no_file_name_are_refused(tmp_path: Path) -> None:
    fields = {"dataset.shards": ["a.tar"], "output.path": "run", "model.name": "m"}
    load_job(None, {**fields, "methods": [{"name": "ig", "label": "x" * (LONGEST_LABELS - 1)}]})
    for label in ("x" * LONGEST_LABELS, "ü" * 30):
        with pytest.raises(UsageError, match=r"model\.label.*160 bytes together"):
            load_job(None, {**fields, "methods": [{"name": "ig", "label": label}]})


def test_what_was_found_is_shown_in_part_only(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    levels = "\n".join(f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    path.write_text(f"dataset:\n  shards:\n  - &a0 [x, x]\n{levels.replace('- ', '  - ')}\noutput: {{path: run}}\n")
    with pytest.raises(UsageError) as caught:
        load_job(path)
    assert len(str(caught.value)) < 10_000
    with pytest.raises(UsageError, match="too long to be shown"):
        load_job(None, {"dataset.shards": ["a.tar"], "output.path": "run", "seed": 10**5000})


NAMES = [*Job.model_fields, "shards", "name", "path", "target", "steps", "label", "options", "max", "num_cpus"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["ig", "ssig", "auto"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), SCALARS.filter(lambda key: key == key)), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.one_of(TREES, st.dictionaries(st.sampled_from([*Job.model_fields]), TREES, max_size=4)))
def test_any_tree_is_a_job_or_a_usage_error(tree: Any, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **tree} if isinstance(tree, dict) else tree, allow_unicode=False))
    with suppress(UsageError):
        assert isinstance(load_job(path), Job)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: START.encode() + text.encode())))
def test_any_bytes_are_a_job_or_a_usage_error(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(text)
    with suppress(UsageError):
        assert isinstance(load_job(path), Job)


SOMEBODY_ELSE = 12345


@pytest.fixture
def anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job file of somebody else's, which names a module that leaves a mark when it is imported."""
    (tmp_path / "hostile_module.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef network(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY_ELSE)
    path = tmp_path / "job.yaml"
    path.write_text(START + "model: {name: 'hostile_module:network'}\n")
    return path


def test_code_is_taken_from_the_users_own_files_only(anothers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        load_job(anothers)
    assert (caught.value.field, caught.value.found) == ("job.yaml: model.name", "hostile_module:network")
    assert f"a file of user {anothers.stat().st_uid}" in caught.value.allowed
    assert "--model hostile_module:network" in caught.value.allowed
    monkeypatch.setattr(os, "geteuid", lambda: anothers.stat().st_uid)
    assert load_job(anothers).model.name == "hostile_module:network"
    assert "hostile_module" not in sys.modules


def test_a_name_from_the_command_line_or_of_a_library_is_taken(anothers: Path) -> None:
    assert load_job(anothers, {"model.name": "hostile_module:network"}).model.name == "hostile_module:network"
    assert load_job(anothers, {"model.name": "timm:resnet18"}).model.name == "timm:resnet18"
    for name in ("timm:resnet18", "torchvision:resnet18", "efficientnet-lite0"):
        anothers.write_text(START + f"model: {{name: '{name}'}}\n")
        assert load_job(anothers).model.name == name


def test_code_of_a_run_is_taken_from_the_users_own_runs_only(
    make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard(count=2)

    def run(label: str | None) -> str:
        fields = {"methods": ["gradient"], "metrics": [], "model__label": label}
        return str(work_off(make_job(shard, **fields, output__path=str(tmp_path / str(label)))))

    def load(*_: object, **__: object) -> None:
        raise RuntimeError("the network is about to be loaded")

    plain, named = run(None), run("net")
    monkeypatch.setattr("pipeline.driver.added_metrics.load_network", load)
    path = list(sys.path)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: SOMEBODY_ELSE)
        # A label is no consent: whoever made the run chose it.
        for folder, fields in ((plain, {}), (named, {"model": "net"}), (plain, {"trust": "networks"})):
            with pytest.raises(UsageError, match="--trust networks:tiny") as caught:
                add_metrics(folder, load_evaluation({"metrics": ["energy"], **fields}))
            assert caught.value.field.endswith(".json: model.name")
        assert sys.path == path
        for folder, fields in ((named, {"trust": "networks:tiny"}), (plain, {"model": "networks:tiny"})):
            with pytest.raises(RuntimeError, match="about to be loaded"):
                add_metrics(folder, load_evaluation({"metrics": ["energy"], **fields}))
    with pytest.raises(RuntimeError, match="about to be loaded"):
        add_metrics(plain, load_evaluation({"metrics": ["energy"]}))


@pytest.mark.parametrize(
    ("folder", "run", "added"),
    [
        (".", "run", True),
        ("run", "run", False),
        ("run/report", "run", False),
        ("run/report", ".", False),
        ("link", "run", False),
        ("run", "link", False),
        ("run-of-mine", "run", True),
        ("run", "memory://run", True),
    ],
)
def test_code_that_is_named_never_comes_from_inside_of_the_run(
    folder: str, run: str, added: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "report").mkdir(parents=True)
    (tmp_path / "run-of-mine").mkdir()
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path / folder)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    import_from_working_folder(run if "://" in run else str(tmp_path / run), "my_networks:tiny")
    assert sys.path == ([*before, os.getcwd()] if added else before)


def test_code_that_an_object_store_names_is_refused() -> None:
    storage = open_storage("memory://somewhere/run")
    with pytest.raises(UsageError, match="an object store, which anybody may have written"):
        refuse_foreign_code("model.name", "networks:tiny", owner_of(storage, "config/x.json"), "name it yourself")
    refuse_foreign_code("model.name", "timm:resnet18", None, "")


def test_an_evaluation_imports_nothing_from_inside_of_its_run(
    make_shard: Make, make_job: Make, work_off: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise RuntimeError(str(sys.path == path))

    run = str(work_off(make_job(make_shard(count=2), methods=["gradient"], metrics=[])))
    monkeypatch.setattr("pipeline.driver.added_metrics.load_network", load)
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", list(path))
    monkeypatch.chdir(run)
    with pytest.raises(RuntimeError, match="True"):
        add_metrics(run, load_evaluation({"metrics": ["energy"]}))
