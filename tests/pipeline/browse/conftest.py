"""The pages of a small real run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browse_site import MARK, PORT, TOKEN, Site, small_run
from starlette.testclient import TestClient

from pipeline.browse.database import Database
from pipeline.browse.index import ready_index
from pipeline.browse.series import Collection
from pipeline.browse.server import application


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browse")
    run = small_run(folder, [{"name": "gradient", "label": MARK[:40]}, {"name": "ig", "steps": 2}])
    collection = Collection([str(run)])
    database = Database(ready_index(collection, folder / "cache").path, [str(run)], seconds=0.7)
    yield Site(run, collection, database, application(collection, database, TOKEN, PORT))
    database.close()


@pytest.fixture
def client(site: Site) -> TestClient:
    """A browser that was opened with the token."""
    client = site.client()
    assert client.get(f"/?token={TOKEN}").status_code == 303
    return client
