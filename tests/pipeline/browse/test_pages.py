"""The pages: what they show, that strings of the data stay text, and that an address is the whole state."""

from __future__ import annotations

import csv
import io
import re
import tarfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browse_site import KEY, Site, small_run
from PIL import Image
from starlette.testclient import TestClient

from pipeline.browse.database import Database
from pipeline.browse.index import ready_index
from pipeline.browse.pages import Pages
from pipeline.browse.pictures import Pictures
from pipeline.browse.series import Collection, series_names
from pipeline.browse.view import parse_view

VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether it nests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def cards(self) -> int:
        return sum(attributes.get("class") == "card" for attributes in self.all("li"))


def page(client: TestClient, address: str) -> Page:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return Page(answer.text)


def sample(site: Site, shard: str = f"{KEY}.tar", index: int = 1) -> dict[str, str | int]:
    return {"shard": shard, "index": index, "method": site.collection.series[0].name}


def test_the_grid_shows_every_sample_with_its_maps(client: TestClient, site: Site) -> None:
    grid = page(client, "/")
    assert grid.cards == 6
    sources = [str(image["src"]) for image in grid.all("img")]
    assert sum(source.startswith("/map") for source in sources) == 5
    for source in sources:
        answer = client.get(source)
        broken = answer.status_code == 404 and source.startswith("/photograph")
        assert broken or max(Image.open(io.BytesIO(answer.content)).size) == 160
    assert sum(client.get(source).status_code == 404 for source in sources) == 1


@pytest.mark.parametrize(
    "address", ["/", "sample", "/?sql=" + "%3Cscript%3E", "/?sort=insertion&versus=ig&label=%3Cb%3E"]
)
def test_no_string_of_the_data_or_address_becomes_a_tag(client: TestClient, site: Site, address: str) -> None:
    if address == "sample":
        address = str(client.build_request("GET", "/sample", params=sample(site)).url)
    shown = page(client, address)
    assert shown.open == []
    assert list(shown.all("script")) == [{"src": "/static/keys.js", "defer": None}]
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert not [name for _, attributes in shown.tags for name in attributes if name == "style"]
    assert "style" not in [name for name, _ in shown.tags]
    assert "<script>alert" in shown.text or "label=" in address
    assert "49" not in re.findall(r"\w+", shown.text.replace(KEY, ""))  # nothing evaluates {{7*7}}


def test_a_sample_has_the_maps_boxes_curves_numbers_and_steps_of_all_methods(client: TestClient, site: Site) -> None:
    answer = client.get("/sample", params=sample(site))
    shown = Page(answer.text)
    maps = [str(image["src"]) for image in shown.all("img") if str(image["src"]).startswith("/map")]
    assert len(maps) == 2
    assert len(shown.all("rect")) == 3  # on the photograph and both maps
    assert len(shown.all("polyline")) == 4
    assert {"insertion", "deletion", "completeness", "gradient_evaluations"} <= set(re.findall(r"\w+", shown.text))
    sliders = [one for one in shown.all("input") if one.get("type") == "range"]
    assert [one["max"] for one in sliders] == ["4", "4"]
    hidden = client.get("/sample", params={**sample(site), "boxes": "off"})
    assert Page(hidden.text).all("rect") == []


def test_steps_go_from_the_reference_to_the_photograph(client: TestClient) -> None:
    def picture(address: str) -> bytes:
        return Image.open(io.BytesIO(client.get(address).content)).convert("RGB").tobytes()

    steps = [picture(f"/step?series=0&sample=2&metric=insertion&step={step}") for step in range(5)]
    assert len(set(steps)) == 5
    assert picture("/step?series=0&sample=2&metric=insertion&step=99") == steps[4]
    assert picture("/step?series=0&sample=2&metric=deletion&step=0") == steps[4]
    assert client.get("/step?series=0&sample=2&metric=completeness&step=1").status_code == 404


def test_the_same_scale_is_that_of_the_strongest_map(client: TestClient) -> None:
    own, same = (
        [client.get(f"/map?series={number}&sample=2&layer=map&scale={scale}").content for number in range(2)]
        for scale in ("own", "same")
    )
    assert sum(one != other for one, other in zip(own, same, strict=True)) == 1


def test_neighbours_are_those_of_the_view(client: TestClient, site: Site) -> None:
    view = {"sort": "insertion", "order": "asc"}
    grid = client.get("/", params=view)
    opened = [str(one["href"]) for one in Page(grid.text).all("a") if str(one["href"]).startswith("/sample")]
    for number, address in enumerate(opened):
        links = {one["rel"]: one["href"] for one in page(client, address).all("link")}
        assert links.get("next") == (opened[number + 1] if number + 1 < len(opened) else None)
        assert links.get("prev") == (opened[number - 1] if number else None)


def test_filters_and_orders(client: TestClient, site: Site) -> None:
    def cards(**parameters: object) -> int:
        return Page(client.get("/", params=parameters).text).cards  # type: ignore[arg-type]

    assert cards(status="undecodable") == 1
    assert cards(status="ok") == 5
    assert cards(status="not done") == 0
    assert cards(label="tench") + cards(label="great white") + cards(label="0") == 6
    assert cards(label="no such class") == 0
    assert cards(prediction="right") + cards(prediction="wrong") == 5
    assert cards(column="insertion", low="0", high="1") + cards(column="insertion", low="1.01", high="") == 5
    assert cards(sql='insertion > 0 AND "right"') + cards(sql='insertion > 0 AND NOT "right"') == 5
    assert cards(sql="other_insertion IS NOT NULL", versus="ig") == 5


def test_samples_are_sorted_by_the_difference_of_two_methods(client: TestClient, site: Site) -> None:
    first = site.collection.series[0].name
    answer = client.get("/selection.csv", params={"method": first, "versus": "ig", "sort": "insertion"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    differences = [float(row["difference of insertion"]) for row in rows if row["difference of insertion"]]
    assert len(differences) == 5
    assert differences == sorted(differences, reverse=True)
    assert rows[-1]["status"] == "undecodable"
    assert any(difference != 0 for difference in differences)


def test_an_address_is_the_whole_state(site: Site) -> None:
    pairs = [("method", "ig"), ("versus", site.collection.series[0].name), ("sort", "deletion"), ("order", "asc")]
    pairs += [("label", "tench"), ("status", "ok"), ("prediction", "wrong"), ("sql", "id > 1 -- ?&=")]
    pairs += [
        ("column", "insertion"),
        ("low", "0.25"),
        ("high", ""),
        ("column", "deletion"),
        ("low", ""),
        ("high", "1.0"),
    ]
    pairs += [("scale", "same"), ("layer", "map"), ("boxes", "off"), ("page", "3")]
    view = parse_view(pairs, site.collection)
    assert view.problems == ()
    assert parse_view(view.pairs(), site.collection) == view
    assert sorted(view.pairs()) == sorted(pairs)


@pytest.mark.parametrize(
    "query",
    ["method=x", "versus=x", "sort=x", "order=x", "page=x", "column=x&low=1&high=", "column=insertion&low=a&high="],
)
def test_what_an_address_has_wrong_is_told(client: TestClient, query: str) -> None:
    shown = page(client, f"/?{query}")
    assert [one for one in shown.all("p") if one.get("role") == "alert"]
    assert shown.cards == 6


def test_a_selection_is_exported_as_a_shard_that_holds_the_same_bytes(client: TestClient, site: Site) -> None:
    grid = page(client, "/?status=ok")
    picks = [str(one["value"]) for one in grid.all("input") if one.get("name") == "pick"][:2]
    answer = client.get("/selection.tar", params={"status": "ok", "pick": picks})
    assert answer.headers["content-disposition"] == 'attachment; filename="selection.tar"'
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        exported = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    source: dict[str, bytes] = {}
    for shard in site.run.parent.glob("*.tar"):
        with tarfile.open(shard) as tar:
            source |= {f"{shard.stem}/{info.name}": tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    assert len(exported) == 6
    assert exported.items() <= source.items()
    every = client.get("/selection.csv").text
    assert len(list(csv.DictReader(io.StringIO(every)))) == 6


@pytest.mark.parametrize(
    "address",
    [
        "/sample?shard=one.tar&index=77",
        "/sample",
        "/map?series=9&sample=0",
        "/map?series=0&sample=999",
        "/map",
        "/step?series=0&sample=5&metric=insertion",
        "/static/x",
    ],
)
def test_what_is_not_there_is_not_found(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 404


def test_a_shard_that_changed_is_not_read(tmp_path: Path) -> None:
    from pipeline.run.stored import shard_of
    from ssig.errors import UsageError

    run = small_run(tmp_path, [{"name": "gradient"}])
    opened = Collection([str(run)]).runs[0]
    assert shard_of(opened, "one.tar")[1] == "one.tar"
    with (tmp_path / "one.tar").open("ab") as shard:
        shard.write(b"more")
    with pytest.raises(UsageError, match="as it was when the run began"):
        shard_of(opened, "one.tar")


def test_a_page_of_the_grid_reads_no_file_of_the_run(tmp_path: Path) -> None:
    run = small_run(tmp_path, [{"name": "gradient"}])
    collection = Collection([str(run)])
    database = Database(ready_index(collection, tmp_path / "cache").path, [str(run)])
    pages = Pages(database, collection, Pictures(database, collection))
    run.rename(tmp_path / "elsewhere")
    view = parse_view([("sort", "insertion"), ("column", "deletion"), ("low", "0"), ("high", "")], collection)
    assert Page(pages.grid(view)).cards == 5
    database.close()


def test_the_index_is_built_once_and_again_when_the_run_changed(tmp_path: Path) -> None:
    run = small_run(tmp_path, [{"name": "gradient"}])
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    first = ready_index(Collection([str(run)]), tmp_path / "cache")
    assert first.seconds is not None
    again = ready_index(Collection([str(run)]), tmp_path / "cache")
    assert (again.path, again.seconds) == (first.path, None)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    next((run / "commits").rglob("*.json")).unlink()
    changed = ready_index(Collection([str(run)]), tmp_path / "cache")
    assert changed.seconds is not None
    assert list((tmp_path / "cache").iterdir()) == [changed.path]


def test_names_tell_series_apart() -> None:
    assert series_names([("a", "m", "ig"), ("a", "m", "ssig")]) == ["ig", "ssig"]
    assert series_names([("a", "m", "ig"), ("b", "m", "ig")]) == ["a / ig", "b / ig"]
    assert series_names([("a", "m", "ig"), ("a", "n", "ig")]) == ["m / ig", "n / ig"]
