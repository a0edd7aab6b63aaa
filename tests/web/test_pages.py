"""The pages for people, and the routes for machines that watch."""

from __future__ import annotations

import re
from html import unescape

import pytest

from plateblur.web import Settings
from plateblur.web.failures import SENTENCES
from plateblur.web.pages import CLIENTS, MEANINGS, render_client
from tests.web.fakes import FakeGate, make_stand, photo_bytes, text_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/", "/docs", "/pricing", "/status"])
async def test_a_page_asks_nothing_of_other_hosts_and_holds_no_inline_code(path: str) -> None:
    answer = await make_stand().client.get(path)
    assert answer.status_code == 200
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
        assert address.startswith(("/", "#")), address
    assert "<style" not in answer.text
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert not re.search(r'\s(?:style|on\w+)="', answer.text)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_reference_tells_every_code_and_field_and_the_front_every_client() -> None:
    client = make_stand().client
    front = unescape((await client.get("/")).text)
    text = unescape((await client.get("/docs")).text)
    assert set(MEANINGS) == set(SENTENCES)
    for one in CLIENTS:
        assert f'<h3 id="example-{one.name}-h">{one.title}</h3>' in front
    for word in [
        *(f'id="cd-{cd}"' for cd in SENTENCES),
        *("base64_Photo_String", "photo_url", "boundingBoxCrop", "plate_output"),
        *("created", "predictions", "probability", "tagId", "tagName", "boundingBox"),
        *("left", "top", "width", "height", "boundingBoxPhoto", "final_photo"),
    ]:
        assert word in text, word
    assert front.count("http://127.0.0.1:8000/plateblurer.aspx") >= len(CLIENTS)


async def test_the_address_on_the_page_is_the_setting_and_not_what_a_request_says() -> None:
    stand = make_stand(settings=Settings(public_url="https://blur.example/"))
    text = (await stand.client.get("/", headers={"Host": "evil.example"})).text
    assert "https://blur.example/plateblurer.aspx" in text
    assert "evil.example" not in text


async def test_a_service_without_photo_url_says_so_and_refuses_it() -> None:
    stand = make_stand(settings=Settings(photo_url=False))
    assert "Disabled on this service" in (await stand.client.get("/docs")).text
    answer = await stand.post({"photo_url": "http://a.example/b.jpg"})
    assert answer.json()[0]["cd"] == "1014"
    assert "switched off" in answer.json()[0]["description"]


async def test_the_docs_show_every_route_of_the_description() -> None:
    stand = make_stand()
    text = (await stand.client.get("/docs")).text
    for path in (await stand.client.get("/openapi.json")).json()["paths"]:
        assert path in text


@pytest.mark.parametrize(
    "path",
    [
        "/static/plateblur.css",
        "/static/try.js",
        "/static/page.js",
        "/static/logo.svg",
        "/static/street.jpg",
        "/static/clip.mp4",
    ],
)
async def test_static_files_are_served(path: str) -> None:
    assert (await make_stand().client.get(path)).status_code == 200


async def test_every_browser_finds_the_logo() -> None:
    client = make_stand().client
    asked = await client.get("/favicon.ico")  # of the demo and of JSON, without a link
    assert asked.headers["content-type"] == "image/svg+xml"
    assert asked.content == (await client.get("/static/logo.svg")).content
    for page in ("/", "/docs"):
        text = (await client.get(page)).text
        assert '<link rel="icon" href="/static/logo.svg" type="image/svg+xml">' in text


@pytest.mark.parametrize("path", ["/static/../settings.py", "/static/%2e%2e/app.py", "/nowhere"])
async def test_what_is_not_there_is_a_problem(path: str) -> None:
    answer = await make_stand().client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("mode", ["development", "production"])
async def test_every_answer_has_strict_headers(mode: str) -> None:
    settings = (
        Settings()
        if mode == "development"
        else Settings(mode="production", secret_key="0f" * 32, public_url="https://blur.example")
    )
    stand = make_stand(settings=settings)
    for path in ("/", "/healthz", "/nowhere", "/v1/usage"):
        headers = (await stand.client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert ("strict-transport-security" in headers) is (mode == "production")


@pytest.mark.parametrize(
    ("store", "model", "status"),
    [(True, True, 200), (False, True, 503), (True, False, 503)],
    ids=["both", "no store", "no model"],
)
async def test_ready_means_store_and_model(store: bool, model: bool, status: int) -> None:
    stand = make_stand(gate=FakeGate(ready=store), ready_checks={"model": lambda: model})
    answer = await stand.client.get("/readyz")
    assert answer.status_code == status
    assert answer.json()["parts"] == {"store": store, "model": model}
    assert (await stand.client.get("/healthz")).status_code == 200


async def test_metrics_count_requests_by_route_and_code_and_name_nobody() -> None:
    stand = make_stand()
    await stand.post({"base64_Photo_String": text_of(photo_bytes())})
    await stand.post({})
    await stand.client.get("/secret-name?of=somebody")
    text = (await stand.client.get("/metrics")).text
    route = 'route="/plateblurer.aspx"'
    assert f'plateblur_requests_total{{cd="",{route},status="200"}} 1.0' in text
    assert f'plateblur_requests_total{{cd="1013",{route},status="200"}} 1.0' in text
    assert "plateblur_predictions_total 5.0" in text
    assert "plateblur_photos_in_work 0.0" in text
    assert "secret-name" not in text


@pytest.mark.parametrize(
    ("authorization", "status"), [("", 401), ("Bearer wrong", 401), ("Bearer abc", 200)]
)
async def test_metrics_can_ask_for_a_token(authorization: str, status: int) -> None:
    stand = make_stand(settings=Settings(metrics_token="abc"))
    answer = await stand.client.get("/metrics", headers={"Authorization": authorization})
    assert answer.status_code == status


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer"])
async def test_metrics_without_a_token_are_closed_in_production(authorization: str) -> None:
    settings = Settings(mode="production", secret_key="0f" * 32, public_url="https://blur.example")
    headers = {"Authorization": authorization}
    answer = await make_stand(settings=settings).client.get("/metrics", headers=headers)
    assert answer.status_code == 401


async def test_the_prices_are_those_of_the_contract_with_every_promise() -> None:
    text = unescape((await make_stand().client.get("/pricing")).text)
    for promise in (
        *("0 USD", "80 USD", "816 USD", "15% off", "Popular", "7 days", "50 requests per day"),
        *("10,000 predictions", "50 requests per minute", "own the copyright", "Unlimited devices"),
        *("Administration console", "Cut-out of each blurred plate", "Premium support"),
        *("No commercial use", "VAT may be added", "probability above 20%", "disposable e-mail"),
    ):
        assert promise in text, promise


@pytest.mark.parametrize(
    ("works", "words"), [(True, "All systems operational"), (False, "don't work")]
)
async def test_the_status_page_shows_what_works(works: bool, words: str) -> None:
    stand = make_stand(ready_checks={"model": lambda: works})
    answer = await stand.client.get("/status")
    assert answer.status_code == 200
    assert words in unescape(answer.text)
    assert "Detector" in answer.text


async def test_colours_change_no_letter_of_the_code() -> None:
    text = (await make_stand().client.get("/")).text
    for client in CLIENTS:
        block = re.search(rf'<code id="client-{client.name}">(.*?)</code>', text, re.DOTALL)
        assert block is not None
        plain = unescape(re.sub(r"</?span[^>]*>", "", block[1]))
        assert plain == render_client(client, public_url="http://127.0.0.1:8000")
        assert "<span" in block[1]
