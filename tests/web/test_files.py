"""Reading files: how browsers are told to treat them, parts of them, and where they are."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rtm.store.files import PART_BYTES
from rtm.web.files import DOWNLOADS_OF_ONE_AT_ONCE
from tests.actions.test_files import picture, uploaded
from tests.world import Refused, World

WorldWith = Callable[..., Awaitable[World]]
NOWHERE = Refused("not_found", "There is nothing at this path")
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "cross-origin",
    "cache-control": "private, max-age=86400, immutable",
    "accept-ranges": "bytes",
}
LETTERS = b"".join(bytes([65 + number % 26]) * 1000 for number in range(3 * PART_BYTES // 1000))


@pytest.mark.parametrize(
    ("name", "content", "content_type", "disposition"),
    [
        ("é.png", picture(size=(8, 8)), "image/png", "inline; filename*=UTF-8''%C3%A9.png"),
        ("page.html", b"<script>", "application/octet-stream", "attachment; filename*=UTF-8''page.html"),
        ("a.svg", b"<svg onload='x()'/>", "application/octet-stream", "attachment; filename*=UTF-8''a.svg"),
        ("a.mjs", b"alert(1)", "application/octet-stream", "attachment; filename*=UTF-8''a.mjs"),
        ("a.css", b"a{}", "application/octet-stream", "attachment; filename*=UTF-8''a.css"),
        ("a.pdf", b"%PDF-1.7", "application/pdf", "attachment; filename*=UTF-8''a.pdf"),
        ("a.mp4", b"\0\0\0\x18ftypmp42", "video/mp4", "attachment; filename*=UTF-8''a.mp4"),
        ("a.txt", b"<script>", "text/plain", "attachment; filename*=UTF-8''a.txt"),
        ("a.unknown", b"?", "application/octet-stream", "attachment; filename*=UTF-8''a.unknown"),
    ],
)
async def test_nothing_that_runs_is_shown(
    world: World, name: str, content: bytes, content_type: str, disposition: str
) -> None:
    alice = await world.web("alice")
    response = await alice.request("GET", await uploaded(alice, name, content))
    assert response.content == content
    assert response.headers["content-type"] == content_type
    assert response.headers["content-disposition"] == disposition
    assert response.headers.items() >= SAFE.items()


async def test_an_image_that_is_a_page_as_well_is_an_image(world: World) -> None:
    alice = await world.web("alice")
    content = picture("GIF", (8, 8)) + b"<script>alert(1)</script>"
    response = await alice.request("GET", await uploaded(alice, "a.html", content))
    assert response.headers["content-type"] == "image/gif"
    assert response.headers.items() >= SAFE.items()


async def test_nobody_has_to_log_in_to_read_and_nobody_else_finds_it(either_world: World) -> None:
    alice = await either_world.web("alice")
    url = await uploaded(alice, "a.txt", b"hello")
    del alice._client.headers["authorization"]
    assert (await alice.request("GET", url)).content == b"hello"
    base, _, rest = url.partition("/files/")
    file_id, _, name = rest.partition("/")
    for path in (
        f"/files/{file_id[:-1]}/{name}",
        f"/files/{'A' * 32}/{name}",
        f"/files/{file_id}/b.txt",
        f"/files/{file_id}/",
        f"/files/{file_id}",
        f"/files/{file_id}/thumbnail/{name}",
        f"/files/{file_id}/original/{name}",
        f"/files/{file_id}/..%2f{name}",
        f"/files/{file_id}%00/{name}",
        f"/files/{file_id[:-1]}%00/{name}",
        f"/files/{file_id[:-1]}%ff/{name}",
        f"/files/{file_id}/%00",
        f"/files/{file_id.swapcase()}/{name}",
        "/files/..%2f..%2fetc%2fpasswd/passwd",
    ):
        response = await alice.request("GET", base + path)
        assert (response.status_code, Refused.read(response.json())) == (404, NOWHERE), path
    assert (await alice.request("POST", url)).status_code == 405


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, len(LETTERS)),
        ("bytes=65535-65536", 65535, 65537),
        (f"bytes={PART_BYTES}-", PART_BYTES, len(LETTERS)),
        ("bytes=100-999999999", 100, len(LETTERS)),
    ],
)
async def test_a_range_is_a_part(world: World, wanted: str, start: int, end: int) -> None:
    alice = await world.web("alice")
    url = await uploaded(alice, "a.txt", LETTERS)
    response = await alice.request("GET", url, headers={"Range": wanted})
    assert (response.status_code, response.content) == (206, LETTERS[start:end])
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(LETTERS)}"
    assert response.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=5-4", f"bytes={len(LETTERS)}-"])
async def test_a_range_outside_is_refused(world: World, wanted: str) -> None:
    alice = await world.web("alice")
    url = await uploaded(alice, "a.txt", LETTERS)
    response = await alice.request("GET", url, headers={"Range": wanted})
    assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(LETTERS)}")


@pytest.mark.parametrize("wanted", ["bytes=-5", "bytes=0-1,3-4", "letters=0-5", "bytes=a-b", "bytes=" + "9" * 99 + "-"])
async def test_another_range_is_the_whole(world: World, wanted: str) -> None:
    alice = await world.web("alice")
    response = await alice.request("GET", await uploaded(alice, "a.txt", LETTERS), headers={"Range": wanted})
    assert (response.status_code, response.content) == (200, LETTERS)


async def test_what_a_browser_has_it_is_not_sent_again(world: World) -> None:
    alice = await world.web("alice")
    url = await uploaded(alice, "a.txt", LETTERS)
    etag = (await alice.request("GET", url)).headers["etag"]
    response = await alice.request("GET", url, headers={"If-None-Match": f'"other", {etag}'})
    assert (response.status_code, response.content) == (304, b"")
    changed = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert (await alice.request("GET", url, headers=changed)).status_code == 200
    assert (await alice.request("GET", url, headers=changed | {"If-Range": etag})).status_code == 206


async def test_a_head_says_how_long_it_is(world: World) -> None:
    alice = await world.web("alice")
    response = await alice.request("HEAD", await uploaded(alice, "a.txt", LETTERS))
    assert (response.headers["content-length"], response.content) == (str(len(LETTERS)), b"")


async def test_a_url_is_that_by_which_the_uploader_has_come_or_the_public_one(world_with: WorldWith) -> None:
    alice = await (await world_with()).web("alice")
    form = {"file": ("a.txt", b"a")}
    path = "/v3.6/agent/action/upload_file"
    proxied = {"Host": "chat.example.com:8443", "X-Forwarded-Proto": "https"}
    url = (await alice.request("POST", path, files=form, headers=proxied)).json()["url"]
    assert url.startswith("https://chat.example.com:8443/files/")  # we are a proxy that is trusted
    for host in ("a b", "evil.com/x", "a@b", "[::1", "x" * 300):
        response = await alice.request("POST", path, files=form, headers={"Host": host})
        assert Refused.read(response.json()) == Refused("validation", "`Host` header must name the server")


async def test_a_public_url_is_that_of_all_files(world_with: WorldWith) -> None:
    alice = await (await world_with(public_url="https://example.com/chat/")).web("alice")
    assert (await uploaded(alice, "a.txt", b"a")).startswith("https://example.com/chat/files/")


async def test_one_address_does_not_read_for_all(world: World) -> None:
    """Who does not read what it asked for holds a part of it, and only so many of those."""
    alice = await world.web("alice")
    url = await uploaded(alice, "a.dat", bytes(10 << 20))
    path = url.partition(str(world.server.port))[2]
    writers = []
    try:
        for _ in range(DOWNLOADS_OF_ONE_AT_ONCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port, limit=1024)
            writers.append(writer)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: rtm\r\n\r\n".encode())
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        response = await alice.request("GET", url)
        assert (response.status_code, Refused.read(response.json()).type) == (503, "service_unavailable")
        await alice.call("list_chats")
    finally:
        for writer in writers:
            writer.transport.abort()
    async with asyncio.timeout(10):
        while (await alice.request("HEAD", url)).status_code != 200 or (
            await alice.request("GET", url)
        ).status_code != 200:
            await asyncio.sleep(0.05)
