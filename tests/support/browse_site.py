"""A small real run in which every string of the data is hostile, and its pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from starlette.testclient import TestClient

from pipeline.browse.database import Database
from pipeline.browse.series import Collection
from pipeline.job.configuration import load_job

MARK = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&{{7*7}}"
KEY = MARK.replace(".", "").replace("/", "")
PORT, TOKEN = 8642, "a-token-of-this-test"
BASE = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True)
class Site:
    """The pages of a run.

    Attributes:
        run: its folder.
        database: its index.
        app: what answers.
    """

    run: Path
    collection: Collection
    database: Database
    app: object

    def client(self) -> TestClient:
        """A browser without a cookie."""
        return TestClient(self.app, base_url=BASE, follow_redirects=False)  # type: ignore[arg-type]


def small_run(folder: Path, methods: list[dict[str, object]]) -> Path:
    """Six images in two shards; one cannot be decoded, and boxes are known of the others."""
    from small_runs import do_units
    from tests_shards import jpeg, write_tar

    boxes = json.dumps({"boxes": [[4, 4, 20, 24]]}).encode()
    first = [("a.jpg", jpeg(0)), ("a.cls", b"0"), ("a.json", boxes), ("broken.jpg", b"no image"), ("broken.cls", b"1")]
    second = [
        (f"{KEY}{number}.{ending}", data)
        for number in range(4)
        for ending, data in (("jpg", jpeg(number)), ("cls", str(number % 3).encode()), ("json", boxes))
    ]
    shards = [write_tar(folder / "one.tar", first), write_tar(folder / f"{KEY}.tar", second)]
    fields = {
        "dataset.shards": [str(shard) for shard in shards],
        "model.name": "networks:tiny",
        "methods": methods,
        "metrics": [{"name": "insertion", "steps": 4}, {"name": "deletion", "steps": 4}, "completeness"],
        "output.path": str(folder / "run"),
        "unit_size": 3,
    }
    run = do_units(load_job(None, fields))
    for path in (run / "config").iterdir():
        config = json.loads(path.read_text())
        config["categories"] = [MARK, "tench", "great white shark"] + [f"class {n}" for n in range(20)]
        path.write_text(json.dumps(config))
    return run
