"""What `ssig status --watch` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from jobs.commands.watch import driver_line, lines
from pipeline.checks.watching import Look, WatchedActor, WatchedLabel
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run

ROOT = Path(__file__).resolve().parents[3]
LABELS = [WatchedLabel("m / ig", 3, 4), WatchedLabel("m / ssig", 1, 4)]


def test_a_run_under_way_is_shown_by_label_and_actor() -> None:
    actor = WatchedActor("actor-1", "GPU 0 of node x", 2, 3.5, 7)
    look = Look("run", LABELS, None, [actor], 2.0, False, 2.5, 75.0, {"died": 1})
    assert list(lines(look)) == [
        "run: under way, 2.5 maps/s, 1:15 left",
        "  m / ig    3/4 units  75.0%",
        "  m / ssig  1/4 units  25.0%",
        "  failed: died 1",
        "  actor-1: 2 units in flight, 3.5 maps of them computed, 7 units in 10 min  (GPU 0 of node x)",
    ]


def test_while_shards_are_listed_it_says_how_many_are() -> None:
    listed, *others = list(lines(Look("run", LABELS, (1200, 1281), silent_seconds=2.0)))[1:]
    assert listed == "  1,200 of 1,281 shards listed; units are counted of these"
    assert len(others) == 2
    assert not Look("run", [WatchedLabel("m / ig", 4, 4)], (3, 6)).is_finished


def test_what_the_driver_does_is_said() -> None:
    assert driver_line(Look("run", LABELS)) == "no driver has begun"
    assert driver_line(Look("run", LABELS, silent_seconds=3600.0)) == "no sign of life for 1:00:00"
    assert driver_line(Look("run", LABELS, silent_seconds=1.0)) == "starting"
    assert driver_line(Look("run", LABELS, silent_seconds=1.0, has_ended=True)).startswith("the last driver has ended")
    assert driver_line(Look("run", [WatchedLabel("m / ig", 4, 4)])) == "all units are done"


def test_it_ends_with_the_run_and_imports_neither_torch_nor_ray(tmp_path: Path) -> None:
    run = write_synthetic_run(tmp_path, SyntheticRun(images=4, methods=["ig"], metrics=[], unit_size=4)).root
    code = (
        "import sys; from jobs.commands.watch import watch; code = watch(sys.argv[1], 1.0, True); "
        "assert not {'torch', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    look = json.loads(done.stdout)
    assert look["finished"]
    assert {label["units_done"] for label in look["labels"]} == {1}
