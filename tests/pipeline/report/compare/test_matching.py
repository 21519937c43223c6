"""Which samples and methods two runs have in common, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import MODEL, photographs, write_run

from pipeline.report.compare.matching import common_samples, pairs
from pipeline.run.reader import open_run
from ssig.errors import UsageError


def written(folder: Path, samples: list) -> Path:
    folder.mkdir()
    path: Path = write_run(folder, samples).path
    return path


def test_samples_are_matched_by_shard_number_and_key(two_runs: tuple[Path, Path]) -> None:
    runs = [open_run(path) for path in two_runs]
    common = common_samples(*runs)
    assert not any("manifest" in vars(run) for run in runs)  # it is read in pieces
    assert (common.by_key, common.only, common.notes) == (0, (0, 0), ())
    np.testing.assert_array_equal(common.first, np.arange(24))
    np.testing.assert_array_equal(common.second, np.arange(24))


def test_samples_in_other_places_are_matched_by_key(tmp_path: Path) -> None:
    samples = photographs(12)
    first = open_run(written(tmp_path / "a", samples))
    second = open_run(written(tmp_path / "b", samples[1:11]))  # five of them at the same place
    common = common_samples(first, second)
    assert (len(common.first), common.by_key, common.only) == (10, 5, (2, 0))
    keys = [run.manifest["key"].to_pylist() for run in (first, second)]
    assert [keys[0][row] for row in common.first] == [keys[1][row] for row in common.second]
    assert "5 samples were matched by their key alone" in common.notes[0]


def test_other_images_under_equal_keys_are_refused(tmp_path: Path) -> None:
    first, second = (open_run(written(tmp_path / f"{seed}", photographs(12, seed=seed))) for seed in (0, 1))
    with pytest.raises(UsageError, match=r"photo_00\d\d has .* bytes in shard-0\.tar") as refused:
        common_samples(first, second)
    assert "\n" not in str(refused.value)


def test_runs_without_a_common_sample_are_refused(tmp_path: Path) -> None:
    samples = photographs(12)
    first = open_run(written(tmp_path / "a", samples))
    second = open_run(written(tmp_path / "b", [replace(sample, key=f"other_{sample.key}") for sample in samples]))
    with pytest.raises(UsageError, match="no sample with the same key"):
        common_samples(first, second)
    with pytest.raises(UsageError, match="another run than RUN_A"):
        common_samples(first, first)


def test_a_shard_with_other_contents_is_named(two_runs: tuple[Path, Path], tmp_path: Path) -> None:
    path = written(tmp_path / "a", photographs(24))
    document = json.loads((path / "run.json").read_text())
    document["dataset"]["shards"][1]["sha256"] = "0" * 64
    (path / "run.json").write_text(json.dumps(document))
    (note,) = common_samples(open_run(two_runs[0]), open_run(path)).notes
    assert "shard-1.tar" in note


def test_methods_of_one_label_belong_together(two_runs: tuple[Path, Path]) -> None:
    matching, lacking = pairs(*map(open_run, two_runs))
    assert [(pair.first_model, pair.method) for pair in matching] == [(MODEL, "ssig"), (MODEL, "ig/50")]
    assert lacking == [f"{MODEL} / <b>new</b>: only in B"]


def test_two_checkpoints_belong_together_where_each_run_has_one_model(two_runs: tuple[Path, Path]) -> None:
    first, second = map(open_run, two_runs)
    second.config = {("another", method): config for (_, method), config in second.config.items()}
    matching, _ = pairs(first, second)
    assert {pair.model for pair in matching} == {f"{MODEL} and another"}
