"""Uploading files, sending them, and reading them again."""

import asyncio
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import orjson
import pytest
from PIL import Image
from sqlalchemy import update

from rtm import images, versions
from rtm.model.chat import Chat
from rtm.store import tables
from rtm.store.files import PART_BYTES
from rtm.web import uploads
from rtm.web.uploads import UPLOADS_OF_ONE_AT_ONCE
from tests.actions.shapes import EVENT_ID, TIME, Like
from tests.world import Client, Refused, Web, World, visiting

GONE = "`event.url` names no file that is here: an unused one expires after 24 hours"
EXECUTABLE = Refused("validation", "`file` must not be executable")
TOO_LARGE = Refused("entity_too_large", "Upload limit exceeded (10MB).")
MEBIBYTE = 1 << 20
WorldWith = Callable[..., Awaitable[World]]


def picture(form: str = "PNG", size: tuple[int, int] = (800, 400), **options: Any) -> bytes:
    """An image of noise, so that it has some bytes."""
    written = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(written, form, **options)
    return written.getvalue()


async def uploaded(web: Web, name: str, content: bytes) -> str:
    """The URL of a file."""
    response = await web.upload(name, content)
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"url"}
    url: str = response.json()["url"]
    return url


async def refused(web: Web, name: str, content: bytes) -> Refused:
    response = await web.upload(name, content)
    assert response.status_code >= 400, response.text
    return Refused.read(response.json())


async def sent(agent: Client | Web, chat_id: str, url: str, **more: Any) -> dict[str, Any]:
    """A file event as it is read afterwards."""
    await agent.call("send_event", chat_id=chat_id, event={"type": "file", "url": url, **more})
    event: dict[str, Any] = (await agent.call("get_chat", chat_id=chat_id))["thread"]["events"][-1]
    return event


async def expire(world: World, at: str = "2020-01-01T00:00:00.000000Z") -> None:
    """Have the license's unused files expire then."""
    of_license = tables.files.c.license_id == world.license_id, tables.files.c.expires_at.is_not(None)
    async with world.server.database.engine.begin() as connection:
        await connection.execute(update(tables.files).where(*of_license).values(expires_at=at))


@pytest.mark.parametrize("version", versions.SERVED)
async def test_a_picture_is_sent(world: World, version: str) -> None:
    alice = await world.web("alice", version=version)
    chat = await world.chat(alice)
    bob = await world.agent("olivia", version=version)
    await bob.call("follow_chat", id=chat.id)
    await bob.forget()

    content = picture()
    url = await uploaded(alice, "sand.png", content)
    event = await sent(alice, chat.id, url, alternative_text="Sand")

    folder = url.removesuffix("/sand.png")
    assert event == {
        "id": EVENT_ID,
        "created_at": TIME,
        "type": "file",
        "author_id": alice.id,
        "visibility": "all",
        "url": Like(rf"http://127\.0\.0\.1:{world.server.port}/files/[A-Za-z0-9_-]{{32}}/sand\.png"),
        "name": "sand.png",
        "content_type": "image/png",
        "size": len(content),
        "width": 800,
        "height": 400,
        "thumbnail_url": f"{folder}/thumbnail/sand.png",
        "thumbnail2x_url": f"{folder}/thumbnail2x/sand.png",
        "alternative_text": "Sand",
    }
    assert (await bob.next_push("incoming_event"))["event"] == event


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 40 * PART_BYTES + 7])
async def test_what_is_uploaded_is_read_again(either_world: World, size: int) -> None:
    alice = await either_world.web("alice")
    content = (b"0123456789abcde\n" * (size // 16 + 1))[:size]
    response = await alice.request("GET", await uploaded(alice, "notes.txt", content))
    assert (response.status_code, response.content) == (200, content)


async def test_a_file_expires_unless_an_event_has_it(either_world: World) -> None:
    alice = await either_world.agent("alice")
    web = await either_world.web("alice")
    chat = await either_world.chat(alice)
    used, unused = [await uploaded(web, "a.txt", b"a") for _ in range(2)]
    assert "alternative_text" not in await sent(alice, chat.id, used, alternative_text="A")
    await expire(either_world)

    assert (await web.request("GET", used)).status_code == 200
    assert (await web.request("GET", unused)).status_code == 404
    event = {"type": "file", "url": unused}
    assert await alice.refused("send_event", chat_id=chat.id, event=event) == Refused("validation", GONE)
    await sent(alice, chat.id, used)


async def test_files_that_no_event_shows_have_so_many_bytes_in_all(world_with: WorldWith) -> None:
    world = await world_with(limits={"unused_upload_bytes": MEBIBYTE})
    alice = await world.web("alice")
    chat = await world.chat(alice)
    half = await uploaded(alice, "a.txt", bytes(MEBIBYTE // 2))
    message = "`file` is too much: files of the license that no event shows have at most 1MB"
    for content in (bytes(MEBIBYTE // 2), bytes(MEBIBYTE + 1)):
        assert await refused(alice, "b.txt", content) == Refused("limit_reached", message)

    await sent(alice, chat.id, half)

    await uploaded(alice, "b.txt", bytes(MEBIBYTE // 2))


async def test_a_file_may_be_in_the_first_events_of_a_chat(either_world: World) -> None:
    alice = await either_world.web("alice")
    urls = [await uploaded(alice, "a.gif", b"hello") for _ in range(3)]
    here, again, lost = ({"type": "file", "url": url} for url in urls)
    started = await alice.call("start_chat", chat={"thread": {"events": [here]}})
    await alice.call("deactivate_chat", id=started["chat_id"])
    resumed = {"id": started["chat_id"], "thread": {"events": [again]}}
    await alice.call("resume_chat", chat=resumed)
    gone = {"type": "file", "url": lost["url"].replace("/files/", "/files/A")[:-7] + "/a.gif"}
    for events in ([lost, gone], [gone, lost]):
        assert await alice.refused("start_chat", chat={"thread": {"events": events}}) == Refused("validation", GONE)
    await expire(either_world)

    assert [(await alice.request("GET", url)).status_code for url in urls] == [200, 200, 404]
    threads = await alice.call("list_threads", chat_id=started["chat_id"])
    assert [thread["events"][0]["name"] for thread in threads["threads"]] == ["a.gif", "a.gif"]


async def test_a_file_that_is_not_here_is_refused_before_anything_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    await alice.call("deactivate_chat", id=chat.id)
    opened: list[Any] = []
    monkeypatch.setattr(Chat, "open_thread", lambda *_, **__: opened.append(True))

    events = [{"type": "file", "url": f"https://example.com/files/{'A' * 32}/a.gif"}]
    for action, wanted in (("start_chat", {}), ("resume_chat", {"id": chat.id})):
        asked = {**wanted, "thread": {"events": events}}
        assert await alice.refused(action, chat=asked) == Refused("validation", GONE)
    assert not opened


async def test_images_of_a_rich_message_are_kept_as_well(either_world: World) -> None:
    alice = await either_world.agent("alice")
    web = await either_world.web("alice")
    chat = await either_world.chat(alice)
    shown, small, large, unused = [await uploaded(web, "a.gif", b"GIF") for _ in range(4)]
    option = {"option_id": "red", "label": "Red", "image_url": small, "image_thumbnail_url": large}
    product = {"view_type": "images", "product_id": "jumper", "options": [option]}
    elements = [{"image": {"url": shown}}, {"ecommerce": product}, {"image": {"url": "https://example.com/a.gif"}}]
    event = {"type": "rich_message", "template_id": "ecommerce", "elements": elements}
    await alice.call("send_event", chat_id=chat.id, event=event)
    await expire(either_world)
    statuses = [(await web.request("GET", url)).status_code for url in (shown, small, large, unused)]
    assert statuses == [200, 200, 200, 404]


async def test_a_file_belongs_to_its_license(world: World) -> None:
    async with visiting(world.server) as stranger:
        url = await uploaded(await stranger.web("alice"), "a.txt", b"a")
    alice = await world.web("alice")
    chat = await world.chat(alice)
    event = {"type": "file", "url": url}
    assert await alice.refused("send_event", chat_id=chat.id, event=event) == Refused("validation", GONE)


async def test_an_event_says_what_the_file_is_whatever_its_url_says(world: World) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    url = await uploaded(alice, "a.txt", b"a")
    lie = url.replace("http://127.0.0.1", "https://evil.example").replace("a.txt", "b.png?c")
    event = await sent(alice, chat.id, lie)
    assert (event["url"], event["name"], event["content_type"]) == (url, "a.txt", "text/plain")


async def test_a_file_elsewhere_is_known_by_its_url(world: World) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    event = await sent(alice, chat.id, "https://example.com/files/image25.png", alternative_text="An image")
    assert event["name"] == "image25.png"
    assert event["alternative_text"] == "An image"
    assert "size" not in event


@pytest.mark.parametrize(
    ("form", "content_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
async def test_an_image_is_known_by_its_content_and_has_thumbnails(world: World, form: str, content_type: str) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    event = await sent(alice, chat.id, await uploaded(alice, "holiday.txt", picture(form)))
    assert (event["content_type"], event["width"], event["height"]) == (content_type, 800, 400)
    for field, size in (("thumbnail_url", (300, 150)), ("thumbnail2x_url", (600, 300))):
        response = await alice.request("GET", event[field])
        assert response.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(response.content)) as thumbnail:
            assert thumbnail.size == size


async def test_a_photograph_with_further_pictures_in_its_file_is_a_jpeg(world: World) -> None:
    alice = await world.web("alice")
    further = Image.new("RGB", (8, 8))
    content = picture("MPO", save_all=True, append_images=[further])
    event = await sent(alice, (await world.chat(alice)).id, await uploaded(alice, "dog.jpg", content))
    assert (event["content_type"], event["width"]) == ("image/jpeg", 800)


async def test_an_image_is_shown_upright_and_never_enlarged(world: World) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    content = picture("JPEG", (80, 40), exif=exif)
    event = await sent(alice, chat.id, await uploaded(alice, "a.jpg", content))
    assert (event["width"], event["height"], event["size"]) == (40, 80, len(content))
    with Image.open(io.BytesIO((await alice.request("GET", event["thumbnail2x_url"])).content)) as thumbnail:
        assert thumbnail.size == (40, 80)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.png", picture()[:1000]),
        ("empty.png", b""),
        ("page.png", b"<!DOCTYPE html><script>alert(1)</script>"),
        ("bitmap.png", picture("BMP")),
        ("beginning.jpg", b"\xff\xd8\xff"),
    ],
)
async def test_what_cannot_be_shown_is_no_image(world: World, name: str, content: bytes) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    event = await sent(alice, chat.id, await uploaded(alice, name, content))
    assert event["content_type"] == "application/octet-stream"
    assert event.keys().isdisjoint({"size", "width", "height", "thumbnail_url", "thumbnail2x_url"})
    response = await alice.request("GET", event["url"])
    assert response.headers["content-disposition"].startswith("attachment")


async def test_who_has_images_looked_at_that_take_long_holds_up_nobody_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, easy = images.read, picture(size=(8, 8))
    waiting, stalled = asyncio.Event(), asyncio.Event()

    async def of_hard_ones_slowly(content: bytes) -> images.Image | None:
        if content != easy:
            waiting.set()
            await stalled.wait()
        return await read(content)

    monkeypatch.setattr(images, "read", of_hard_ones_slowly)
    alice = await world.web("alice")
    hard = [asyncio.create_task(alice.upload("hard.png", picture())) for _ in range(UPLOADS_OF_ONE_AT_ONCE)]
    await waiting.wait()
    async with visiting(world.server) as stranger:
        await uploaded(await stranger.web("alice"), "easy.png", easy)
    stalled.set()
    assert [upload.status_code for upload in await asyncio.gather(*hard)] == [200] * UPLOADS_OF_ONE_AT_ONCE


async def test_an_image_of_too_many_pixels_is_refused(world: World) -> None:
    written = io.BytesIO()
    Image.new("1", (8001, 8001)).save(written, "PNG", optimize=True)
    assert len(written.getvalue()) < 20_000
    message = "`file` must be an image of at most 64000000 pixels"
    assert await refused(await world.web("alice"), "bomb.png", written.getvalue()) == Refused("validation", message)


@pytest.mark.parametrize(
    "name",
    ["a.exe", ".exe", "A.EXE", "a.txt.scr", "a.exe. .", "a\u202egnp.exe", "run.sh", "x/y\\z.bat", "a.\u200bexe"],
)
async def test_a_name_of_something_executable_is_refused(world: World, name: str) -> None:
    assert await refused(await world.web("alice"), name, b"hello") == EXECUTABLE


@pytest.mark.parametrize(
    "content",
    [
        b"MZ\x90\0",
        b"\x7fELF\x02",
        b"#!/bin/sh\n",
        b"\xef\xbb\xbf#!/bin/sh\n",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
        b"dex\n035",
        b"\0asm\1",
        b"L\0\0\0\x01\x14\x02\0",
        b"!<arch>\ndebian-binary",
    ],
)
async def test_what_is_executable_is_refused_whatever_its_name(world: World, content: bytes) -> None:
    assert await refused(await world.web("alice"), "holiday.png", content + bytes(100)) == EXECUTABLE


async def test_ten_megabytes_are_the_most(either_world: World) -> None:
    alice = await either_world.web("alice")
    url = await uploaded(alice, "a.dat", bytes(10 * MEBIBYTE))
    response = await alice.request("GET", url)
    assert len(response.content) == 10 * MEBIBYTE
    assert await refused(alice, "a.dat", bytes(10 * MEBIBYTE + 1)) == TOO_LARGE
    assert (await alice.upload("a.dat", bytes(11 * MEBIBYTE))).status_code == 413


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\Ada\\report.pdf", "report.pdf"),
        ("..", "file"),
        (" a . ", "a"),
        ("a<b>c|d?e*.txt", "a_b_c_d_e_.txt"),
        ("é" * 300 + ".png", "é" * 125 + ".png"),
        ("a/b.txt", "b.txt"),
        ("50%2f.txt", "50%2f.txt"),
    ],
)
async def test_a_name_is_a_name(world: World, name: str, kept: str) -> None:
    alice = await world.web("alice")
    chat = await world.chat(alice)
    url = await uploaded(alice, name, b"hello")
    assert len(url) < 2048
    assert (await sent(alice, chat.id, url))["name"] == kept
    assert (await alice.request("GET", url)).content == b"hello"


async def test_what_is_no_upload_is_refused(world: World) -> None:
    alice = await world.web("alice")
    assert await alice.refused("upload_file", file="a") == Refused(
        "validation", "`Content-Type` must be multipart/form-data"
    )
    response = await alice.upload("a.txt", b"a", field="data")
    assert Refused.read(response.json()) == Refused("validation", "`file` is required")
    response = await alice.request("POST", "/v3.6/agent/action/upload_file", data={"file": "a"}, files={"b": b"b"})
    assert Refused.read(response.json()) == Refused("validation", "`file` must be a file")
    socket = await world.agent("alice")
    assert await socket.refused("upload_file") == Refused("not_found", "`action` is for the Web API only: upload_file")


# Who is slow, and who sends many at once


class Upload:
    """A form with a file of MEBIBYTE that comes piece by piece."""

    BEGINNING = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    END = b"\r\n--B--\r\n"

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def begun(cls, world: World, name: str) -> AsyncIterator[Self]:
        """It has its place, and all up to the file itself has been sent."""
        upload = cls(*await asyncio.open_connection("127.0.0.1", world.server.port))
        try:
            await upload._begin(await world.token(name))
            yield upload
        finally:
            upload.writer.close()

    async def _begin(self, token: str) -> None:
        head = {
            "Host": "rtm",
            "Authorization": token,
            "Content-Type": "multipart/form-data; boundary=B",
            "Content-Length": str(len(self.BEGINNING) + MEBIBYTE + len(self.END)),
            "Expect": "100-continue",  # which is answered when the body is asked for
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.writer.write(f"POST /v3.6/agent/action/upload_file HTTP/1.1\r\n{lines}\r\n".encode())
        asked = await self._reader.readuntil(b"\r\n\r\n")
        assert asked == b"HTTP/1.1 100 Continue\r\n\r\n", asked
        self.writer.write(self.BEGINNING)

    async def answer(self) -> Any:
        """What it is answered."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        [size] = re.findall(rb"(?i)content-length: (\d+)", head)
        return orjson.loads(await self._reader.readexactly(int(size)))


async def test_who_sends_too_slowly_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_S", 0.5)
    async with Upload.begun(world, "alice") as upload:
        answer = asyncio.create_task(upload.answer())
        for _ in range(500):
            upload.writer.write(b"x" * 100)
            await asyncio.wait([answer], timeout=0.02)
            if answer.done():
                break
        assert Refused.read(answer.result()) == Refused("request_timeout", "Request took too long to arrive")


async def test_who_pauses_and_makes_up_for_it_is_served(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_S", 2)
    async with Upload.begun(world, "alice") as upload:
        for _ in range(4):
            await asyncio.sleep(0.7)
            upload.writer.write(bytes(MEBIBYTE // 4))
        upload.writer.write(Upload.END)
        assert set(await upload.answer()) == {"url"}


async def test_one_license_does_not_take_all_places(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_S", 60)  # all of them are under way until the end
    dave = await world.web("dave")
    async with AsyncExitStack() as stack:
        for name in ("alice", "bob", "carol", "olivia"):
            for _ in range(UPLOADS_OF_ONE_AT_ONCE):
                await stack.enter_async_context(Upload.begun(world, name))
        response = await dave.upload("a.txt", b"a")
        message = "Too many uploads at once: at most 16 of a license, try again in 1 s"
        assert Refused.read(response.json()) == Refused("too_many_requests", message)
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")

        async with visiting(world.server) as stranger:
            await uploaded(await stranger.web("alice"), "a.txt", b"a")

    async with asyncio.timeout(10):
        while (await dave.upload("a.txt", b"a")).status_code == 429:
            await asyncio.sleep(0.01)


async def test_nobody_uploads_without_a_token(world: World) -> None:
    alice = await world.web("alice")
    del alice._client.headers["authorization"]
    response = await alice.upload("a.txt", b"a")
    assert (response.status_code, Refused.read(response.json()).type) == (401, "authentication")
