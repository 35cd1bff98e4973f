"""What files are called, and what is known of a file elsewhere."""

from typing import Any

import pytest

from rtm.model.files import describe, id_in, safe_name

ID = "A" * 30 + "-_"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("", "file"),
        (".", "file"),
        ("../..", "file"),
        ("/", "file"),
        ("a.exe\0", "a.exe"),
        ("a.exe. . ", "a.exe"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("a\r\nX: b.txt", "aX_ b.txt"),
        ('a"b.txt', "a_b.txt"),
        ("a.exe::$DATA", "a.exe__$DATA"),
        ("\ud800.txt", ".txt"),
        (".env", ".env"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 300 + ".txt", "x" * 251 + ".txt"),
        ("x." + "é" * 300, "x." + "é" * 31),
        ("é" * 300, "é" * 127),
    ],
)
def test_a_safe_name(name: str, kept: str) -> None:
    assert safe_name(name) == kept


@pytest.mark.parametrize(
    ("url", "name", "content_type"),
    [
        ("https://example.com/a/report.pdf?version=2", "report.pdf", "application/pdf"),
        ("https://example.com/caf%C3%A9.PNG", "café.PNG", "image/png"),
        ("https://example.com/a%2Fb%00.txt", "b.txt", "text/plain"),
        ("https://example.com/", "file", "application/octet-stream"),
        ("https://example.com/archive.unheard-of", "archive.unheard-of", "application/octet-stream"),
    ],
)
def test_a_file_elsewhere_is_named_after_its_url(url: str, name: str, content_type: str) -> None:
    event = {"url": url}
    describe(event, None)
    assert event == {"url": url, "name": name, "content_type": content_type}


def test_only_images_have_an_alternative_text() -> None:
    for name, is_kept in (("a.txt", False), ("a.png", True)):
        event: dict[str, Any] = {"url": f"https://a.com/{name}", "alternative_text": "A"}
        describe(event, None)
        assert ("alternative_text" in event) == is_kept


@pytest.mark.parametrize(
    ("url", "file_id"),
    [
        (f"https://rtm.test/files/{ID}/a.png", ID),
        (f"https://rtm.test/chat/files/{ID}/thumbnail/a.png", ID),
        (f"https://rtm.test/files/{ID}/a.png?b#c", ID),
        (f"https://rtm.test/files/{ID}/", None),
        (f"https://rtm.test/files/{ID}A/a.png", None),
        (f"https://rtm.test/?/files/{ID}/a.png", None),
        ("https://rtm.test/files/a.png", None),
    ],
)
def test_a_url_of_ours(url: str, file_id: str | None) -> None:
    assert id_in(url) == file_id
