"""A run over real images under a random schedule of faults, drawn from a seed; then the same command to its end.

    python tests/faults/chaos.py SEED [--images 200]

Commands follow each other on a cluster of two nodes. Faults are drawn for each: processes that die, stand still or
are asked to stop at some step, disks that fail, a network that raises, clocks that jump, a node that goes and comes
back, a second driver. Then faults end, the command is given until it is done, and the run is audited and compared
with an undisturbed one, which later seeds share. One line of JSON says what happened; the exit code is 0 if nothing
was lost, doubled or changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
os.environ.setdefault("OMP_NUM_THREADS", "1")
if __name__ == "__main__":  # processes that are started from here import this file too
    # Before Ray is imported. In a folder of its own, no other driver of this machine finds and joins its cluster.
    own = {"RAY_AUTH_TOKEN": uuid.uuid4().hex, "RAY_TMPDIR": tempfile.mkdtemp(prefix="ray-", dir="/tmp")}
    os.environ.update({"RAY_AUTH_MODE": "token", **own})

import fault_actions  # noqa: E402
from disturbed import ACTOR_STEPS, Disturbed, assert_same_numbers, drive, keys_of  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from undisturbed import undisturbed  # noqa: E402

from pipeline.checks.audit import audit  # noqa: E402
from ssig.errors import SsigError  # noqa: E402

IMAGES_PER_SHARD = 50
# Faults are drawn for so many commands, unless so many seconds have passed before.
COMMANDS, SECONDS = 4, 60.0
COMMAND_SECONDS, LAST_COMMANDS = 180.0, 4

WRITING_POINTS = ["before-stage", "after-write", "after-fsync", "before-publish", "after-link", "before-commit"]
DRIVER_POINTS = [
    *("after-lease", "after-run-record", "after-part", "after-manifest", "after-labels", "after-order", "after-event"),
    *("before-report", "after-report", "before-replace"),
]
KINDS = {
    "kill": (ACTOR_STEPS, 3),
    "kill-driver": (ACTOR_STEPS, 1),
    "kill-both": (ACTOR_STEPS, 1),
    "kill-group": (ACTOR_STEPS, 0.5),
    "stop": (ACTOR_STEPS, 1),
    "raise": (["after-read"], 0.5),
    "clock": ([*ACTOR_STEPS, *DRIVER_POINTS], 1),
    "sleep": (ACTOR_STEPS, 1),
    "no-space": (WRITING_POINTS, 1),
    "io-error": (WRITING_POINTS, 1),
    "interrupt-driver": (ACTOR_STEPS, 0.5),
    "terminate-driver": (ACTOR_STEPS, 0.5),
    "kill ": (DRIVER_POINTS, 1),  # of the driver itself
}


def draw(random: np.random.Generator, passes: int) -> str:
    """A fault: what, where, and after how many passes of the point."""
    names = list(KINDS)
    weights = np.array([KINDS[name][1] for name in names])
    kind = names[random.choice(len(names), p=weights / weights.sum())]
    points, _ = KINDS[kind]
    point = points[random.integers(len(points))]
    once = point in DRIVER_POINTS and point not in ("after-order", "after-event")
    rule = f"{point}:{kind.strip()}:skip={0 if once else random.integers(passes)}"
    if kind in ("no-space", "io-error"):
        rule += f":times={random.integers(1, 4)}"
    if kind == "stop":
        rule += f":seconds={random.integers(1, 6)}"
    if kind == "clock":
        rule += f":seconds={random.choice([-1, 1]) * 10 ** random.integers(1, 9)}"
    return rule


def settings(images: int) -> dict[str, Any]:
    shards = sorted(Path(os.environ.get("SSIG_DEV_SHARDS", ROOT.parent / "shared" / "imagenet")).glob("*.tar"))
    chosen = shards[: -(-images // IMAGES_PER_SHARD)]
    if len(chosen) * IMAGES_PER_SHARD < images:
        raise SystemExit(f"--images: found {len(shards)} shards of real images; SSIG_DEV_SHARDS names their folder")
    return {
        "dataset__shards": [str(shard) for shard in chosen],
        "dataset__limit": images,
        "model__target": "predicted",
        "unit_size": 10,
        "actors__max": "auto",
    }


def chaos(seed: int, images: int) -> dict[str, Any]:
    """One schedule of faults, and what was left."""
    job_settings = settings(images)
    expected = undisturbed(job_settings)
    random = np.random.default_rng(seed)
    codes: list[int | None] = []
    given: list[str] = []
    fired: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ssig-chaos-") as folder:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        case = Disturbed(Path(folder), Path(), expected)
        case.environment = {"RAY_ADDRESS": cluster.address}
        try:
            node = cluster.add_node(num_cpus=1)
            for number in range(COMMANDS + LAST_COMMANDS):
                disturbing = number < COMMANDS and time.monotonic() - began < SECONDS
                if codes and codes[-1] == 0:
                    break
                rules = [draw(random, images // 20) for _ in range(random.integers(2, 6))] if disturbing else []
                loses_node = disturbing and random.random() < 0.3
                has_rival = disturbing and random.random() < 0.2
                case.folder = Path(folder) / f"faults-{number}"
                case.folder.mkdir()
                process = case.begin(drive, ";".join(rules), **job_settings)
                if has_rival:  # whoever holds the lease works, the other is refused
                    case.begin(drive, **job_settings)
                if loses_node:
                    process.join(random.uniform(4, 10))
                    cluster.remove_node(node, allow_graceful=False)
                codes.append(case.end(process, COMMAND_SECONDS))
                print(f"command {number}: {codes[-1]} {rules}\n{case.messages()[-2000:]}", file=sys.stderr)
                case.close()
                if loses_node:
                    node = cluster.add_node(num_cpus=1)
                beside = ["node:lost"] * loses_node + ["driver:second"] * has_rival
                given += [*rules, *beside]
                fired += [*fault_actions.fired(case.folder), *beside]
            return {
                "seed": seed,
                "images": images,
                "codes": codes,
                "given": given,
                **judged(case.run, expected, fired),
                "seconds": round(time.monotonic() - began, 1),
            }
        finally:
            case.close()
            cluster.shutdown()


def judged(run: Path, expected: Path, fired: list[str]) -> dict[str, Any]:
    """What the faults did to a run."""
    notes = [line for line in fired if ":note" in line]
    wanted, found = keys_of(expected), keys_of(run)
    problems = []
    try:
        problems += audit(str(run)).problems
        assert_same_numbers(run, expected)
    except (AssertionError, SsigError, ValueError, OSError) as error:
        problems.append(f"{type(error).__name__}: {error}"[:300])
    return {
        "injected": dict(Counter(line.split()[0] for line in fired if ":note" not in line)),
        "rows": found.total(),
        "lost": (wanted - found).total(),
        "duplicated": (found - wanted).total(),
        "redone": len(notes) - len(set(notes)),
        "problems": problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("--images", type=int, default=4 * IMAGES_PER_SHARD)
    arguments = parser.parse_args()
    try:
        result = chaos(arguments.seed, arguments.images)
    finally:
        shutil.rmtree(own["RAY_TMPDIR"], ignore_errors=True)
    print(json.dumps(result), flush=True)
    sound = result["lost"] == result["duplicated"] == 0 and not result["problems"] and result["codes"][-1] == 0
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
