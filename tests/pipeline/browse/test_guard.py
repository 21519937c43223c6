"""Who is let in, and with what an answer is sent."""

from __future__ import annotations

import pytest
from browse_site import PORT, TOKEN, Site
from starlette.testclient import TestClient

PLACES = ["/", "/sample?shard=one.tar&index=0", "/map?series=0&sample=0", "/selection.csv", "/static/style.css", "/x"]


@pytest.mark.parametrize("place", PLACES)
def test_without_the_token_nothing_is_shown(site: Site, place: str) -> None:
    answer = site.client().get(place)
    assert answer.status_code == 403
    assert "ssig browse" in answer.text
    assert "one.tar" not in answer.text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "é"])
def test_a_wrong_token_is_refused(site: Site, token: str) -> None:
    client = site.client()
    assert client.get("/", params={"token": token}).status_code == 403
    assert not client.cookies
    assert client.get("/", headers={"cookie": f"ssig-browse-{PORT}={token}".encode()}).status_code == 403


def test_the_token_moves_into_a_cookie_that_scripts_and_other_sites_have_no_use_of(site: Site) -> None:
    client = site.client()
    answer = client.get("/sample", params={"token": TOKEN, "shard": "one.tar", "index": "0"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sample?shard=one.tar&index=0"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"ssig-browse-{PORT}=" in cookie
    assert client.get("/").status_code == 200


def test_the_redirect_stays_on_this_server(site: Site) -> None:
    answer = site.client().get(f"http://127.0.0.1:{PORT}//evil.example/x", params={"token": TOKEN})
    assert answer.headers["location"] == "/evil.example/x"


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", "localhost:80", ""]
)
def test_another_host_is_refused_with_the_cookie_too(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert client.get(f"/?token={TOKEN}", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", [f"localhost:{PORT}", f"[::1]:{PORT}", f"127.0.0.1:{PORT}"])
def test_the_names_of_this_machine_are_allowed(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host, "cookie": f"ssig-browse-{PORT}={TOKEN}"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(client: TestClient, method: str) -> None:
    assert client.request(method, "/").status_code == 405


@pytest.mark.parametrize("place", PLACES)
def test_every_answer_forbids_scripts_of_others_and_tells_no_address(client: TestClient, place: str) -> None:
    headers = client.get(place).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_refusal_has_the_same_headers(site: Site) -> None:
    assert site.client().get("/").headers["referrer-policy"] == "no-referrer"
