"""Times and memory of the pages of `ssig browse`: python tests/support/browse_times.py FOLDER [--images N].

It writes a synthetic run into FOLDER where there is none, with `--images` images under ten methods and no maps, and
one of 500 images with maps. It prints what a person waits for; no number is asserted.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from starlette.testclient import TestClient

from pipeline.browse.database import Database
from pipeline.browse.index import ready_index
from pipeline.browse.series import Collection
from pipeline.browse.server import application
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run

METHODS = ("ig", "gradient", "ssig", "smoothgrad", "guided-ig", "agi", "idg", "ssig-signed", "sobel", "ssig-frequency")
METRICS = ("insertion", "deletion", "roc_auc", "pointing")
WITH_MAPS = 500


def memory() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(client: TestClient, name: str, addresses: list[str]) -> None:
    """Prints the median and the longest time of some requests, and the memory after them."""
    seconds = []
    for address in addresses:
        start = time.perf_counter()
        answer = client.get(address)
        seconds.append(time.perf_counter() - start)
        assert answer.status_code == 200, (address, answer.text)
    middle = sorted(seconds)[len(seconds) // 2]
    longest = f"longest {1000 * max(seconds):.0f} ms of {len(seconds)}"
    print(f"{name}: median {1000 * middle:.0f} ms, {longest}; {memory():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50_000)
    given = parser.parse_args()
    runs = {"small": (WITH_MAPS, "float16", 224), "big": (given.images, "none", 8)}
    for name, (images, maps, side) in runs.items():
        if not (given.folder / name / "run").exists():
            wanted = SyntheticRun(images, METHODS, METRICS, maps=maps, side=side)  # type: ignore[arg-type]
            write_synthetic_run(given.folder / name, wanted)
    for names in (["big"], ["small"], ["big", "small"]):
        start = time.perf_counter()
        collection = Collection([str(given.folder / name / "run") for name in names])
        opened = time.perf_counter() - start
        index = ready_index(collection, given.folder / "cache")
        built = "there already" if index.seconds is None else f"built in {index.seconds:.1f} s"
        size = index.path.stat().st_size / 1e6
        print(f"\n{' and '.join(names)}: opened in {opened:.1f} s; index {built}, {size:.0f} MB; {memory():.0f} MB")
        measure(collection, Database(index.path, [run.root for run in collection.runs]))


def measure(collection: Collection, database: Database) -> None:
    """Asks for pages as a person does, and prints how long each took."""
    client = TestClient(application(collection, database, "token", 1), base_url="http://127.0.0.1:1")
    client.get("/?token=token")
    first, last = collection.series[0].name, collection.series[-1].name
    timed(client, "first page", ["/"])
    timed(client, "next pages", [f"/?page={number}" for number in range(2, 22)])
    sorted_by = f"/?method={first}&versus={last}&sort=insertion"
    timed(client, "sorted by a difference", [f"{sorted_by}&page={number}" for number in range(1, 21)])
    timed(client, "filtered by SQL", ["/?sql=insertion+%3E+0.5+AND+%22right%22&column=deletion&low=0.2&high=0.4"])
    timed(client, "page 20", ["/?page=20"])
    timed(client, "samples", [f"/sample?shard=000000.tar&index={number}&sort=insertion" for number in range(10)])
    if collection.series[-1].has_maps:
        number = collection.series[-1].number
        timed(client, "thumbnails", [f"/map?series={number}&sample={sample}&side=160" for sample in range(100)])
    database.close()


if __name__ == "__main__":
    main()
