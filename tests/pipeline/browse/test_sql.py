"""SQL that people type: it selects, and reaches nothing but the runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browse_site import Site
from starlette.testclient import TestClient

from pipeline.browse.database import Database, QueryError


@pytest.fixture
def secret(site: Site) -> Iterator[Path]:
    path = site.run.parent / "secret.csv"
    path.write_text("word\nsesame\n")
    yield path
    path.unlink()


def refusal(client: TestClient, sql: str) -> str:
    """What the page says of a condition; no sample is shown."""
    answer = client.get("/", params={"sql": sql})
    assert answer.status_code == 200
    assert 'class="card"' not in answer.text
    assert 'role="alert"' in answer.text
    assert client.get("/selection.csv", params={"sql": sql}).status_code == 400
    return answer.text.split('role="alert">')[1].split("</p>")[0]


def test_files_outside_of_the_runs_are_refused(client: TestClient, site: Site, secret: Path) -> None:
    for path in (secret, site.run / ".." / "secret.csv", "/etc/passwd", site.run.parent / "*.csv"):
        for reader in (f"read_csv('{path}')", f"read_text('{path}')", f"glob('{path}')", f"'{path}'"):
            said = refusal(client, f"(SELECT count(*) FROM {reader}) > 0")
            assert "sesame" not in said
            assert "Permission" in said or "does not exist" in said or "not" in said


def test_files_of_the_runs_can_be_read(client: TestClient, site: Site) -> None:
    manifest = site.run / "manifest.parquet"
    answer = client.get("/", params={"sql": f"key IN (SELECT key FROM read_parquet('{manifest}') WHERE label = 1)"})
    assert 'role="alert"' not in answer.text
    assert answer.text.count('class="card"') == 2


@pytest.mark.parametrize(
    "sql",
    [
        "true); COPY samples TO 'RUN/stolen.csv'; SELECT (true",
        "true); ATTACH 'RUN/other.db'; SELECT (true",
        "true); SET memory_limit = '9GB'; SELECT (true",
        "true); CREATE TABLE mine AS SELECT 1; SELECT (true",
        "true); DROP TABLE samples; SELECT (true",
        "true); INSTALL httpfs; SELECT (true",
        "true); PRAGMA database_list; SELECT (true",
        "true); EXPORT DATABASE 'RUN/stolen'; SELECT (true",
        "(COPY samples TO 'RUN/stolen.csv')",
        "(SELECT 1 FROM 'http://127.0.0.1:1/x.parquet')",
        "(SELECT 1 FROM read_csv('https://example.org/x.csv'))",
        "$given_0",
        "key = $1",
        "no_such_column",
        "(",
    ],
)
def test_what_is_no_condition_is_refused(client: TestClient, site: Site, sql: str) -> None:
    before = sorted(site.run.rglob("*"))
    refusal(client, sql.replace("RUN", str(site.run)))
    assert sorted(site.run.rglob("*")) == before
    assert client.get("/").text.count('class="card"') == 6


@pytest.mark.parametrize(
    "sql",
    [
        "COPY samples TO 'RUN/stolen.csv'",
        "ATTACH 'RUN/other.db'",
        "SET memory_limit = '9GB'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "CREATE TEMP TABLE mine AS SELECT 1",
        "PRAGMA database_list",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_the_database_executes_one_select_alone(site: Site, sql: str) -> None:
    with pytest.raises(QueryError):
        site.database.rows(sql.replace("RUN", str(site.run)))
    assert not (site.run / "stolen.csv").exists()


def test_python_is_out_of_reach(site: Site) -> None:
    table = [1]
    with pytest.raises(QueryError):
        site.database.rows("SELECT * FROM table")
    with pytest.raises(QueryError):
        site.database.rows("SELECT * FROM site")
    assert table


def test_what_takes_too_long_is_stopped_and_the_next_query_answered(client: TestClient) -> None:
    said = refusal(client, "(SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b) > 0")
    assert "took longer than" in said
    assert client.get("/?sql=true").text.count('class="card"') == 6


def test_memory_is_limited(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "index"
    import duckdb

    duckdb.connect(str(path)).close()
    database = Database(path, [str(site.run)], seconds=60, memory="64MB")
    with pytest.raises(QueryError, match="Memory"):
        database.rows("SELECT count(DISTINCT hash(range) || 'x') FROM range(30000000)")
    database.close()
