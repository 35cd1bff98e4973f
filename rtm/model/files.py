"""Files: which may be uploaded, where they are then found, and what a file event says about its file.

A URL of ours is `<origin>/files/<id>/<name>`; the id is the secret that lets its reader in. Thumbnails are at
`<origin>/files/<id>/thumbnail/<name>` and `thumbnail2x`. The name only says what to call the file.

The reference wants a file event's `url` to point to its CDN. Here it may be any URL, as integrations host files
themselves, and such a file is known by its URL alone. But one of the form of ours must be that of a file that is here.
"""

import mimetypes
import re
import secrets
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from rtm.protocol.errors import ValidationError

LIFETIME_S = 24 * 3600
"""Of a file that no event has yet."""
MAX_NAME_BYTES = 255
UNKNOWN_CONTENT_TYPE = "application/octet-stream"
THUMBNAIL, THUMBNAIL_2X = "thumbnail", "thumbnail2x"

_ID_BYTES = 24
_ID = re.compile(r"[A-Za-z0-9_-]{32}")
_OURS = re.compile(rf".*/files/({_ID.pattern})/.+")
_content_types = mimetypes.MimeTypes()  # those Python knows, not those of the machine's own tables

# Characters that a path or a file system gives a meaning of its own.
_RESERVED = str.maketrans(dict.fromkeys('<>:"|?*', "_"))

# What Windows, macOS, Android or a Linux desktop runs when it is opened.
_EXECUTABLE_SUFFIXES = tuple(
    """
    .ade .adp .apk .app .appimage .appx .appxbundle .bash .bat .chm .cmd .com .command .cpl .csh .deb .dex .dll
    .dmg .elf .exe .gadget .hta .ins .ipa .isp .jar .jnlp .js .jse .ksh .lnk .mde .msc .msi .msix .msp
    .mst .nsh .pif .pkg .ps1 .ps1xml .psm1 .reg .rpm .run .scf .scpt .scr .sct .sh .shb .so .sys .url .vb .vbe .vbs
    .vbscript .vxd .wsc .wsf .wsh .xbap .zsh
    """.split()
)
_EXECUTABLE_BEGINNINGS = (
    b"MZ",  # Windows, DOS
    b"\x7fELF",  # Linux, BSD
    b"\xfe\xed\xfa\xce",  # macOS, in its four forms
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",  # Java, and macOS for several processors
    b"dex\n",  # Android
    b"\0asm",  # WebAssembly
    b"#!",  # scripts
    b"\xef\xbb\xbf#!",
    b"L\0\0\0\x01\x14\x02\0",  # a shortcut of Windows, which may hold a command
    b"!<arch>\n",  # Debian packages, libraries
    b"\xed\xab\xee\xdb",  # RPM packages
)
BEGINNING_BYTES = 16
"""Of a file, to tell whether it is executable."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is here; `width` and `height` are an image's, which has thumbnails. Times are the protocol's."""

    id: str
    license_id: int
    origin: str
    """The scheme and host, and maybe path, by which its uploader reaches the server."""
    name: str
    content_type: str
    size: int
    width: int | None
    height: int | None
    created_at: str
    expires_at: str | None
    """None for one that an event has."""

    @property
    def is_image(self) -> bool:
        """Whether it has thumbnails."""
        return self.width is not None

    def has_expired(self, now: str) -> bool:
        """Whether it is no longer there for anybody."""
        return self.expires_at is not None and self.expires_at <= now

    def url(self, *variant: str) -> str:
        """Where it is found, or the thumbnail named."""
        return "/".join((self.origin, "files", self.id, *variant, quote(self.name, safe="")))


class Content(Protocol):
    """The bytes of a file."""

    async def read(self, size: int) -> bytes:
        """So many more, or what is left."""

    async def seek(self, offset: int) -> None:
        """Go on from there."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it came."""

    name: str
    size: int
    content: Content
    origin: str
    """As in StoredFile."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}


def new_id() -> str:
    """An id that nobody guesses."""
    return secrets.token_urlsafe(_ID_BYTES)


def is_id(text: str) -> bool:
    """Whether a file may have this id."""
    return _ID.fullmatch(text) is not None


def id_in(url: str) -> str | None:
    """The id of the file, if the URL is of the form of ours."""
    match = _OURS.fullmatch(urlsplit(url).path)
    return match[1] if match else None


def ids_in(urls: Iterable[str]) -> tuple[str, ...]:
    """The ids in those of the URLs that are of the form of ours."""
    return tuple(file_id for url in urls if (file_id := id_in(url)) is not None)


def safe_name(name: str) -> str:
    """What to call a file that its sender calls `name`: without a path, invisible characters, or dots at the end."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    name = "".join(filter(str.isprintable, name)).translate(_RESERVED).rstrip(". ").lstrip()
    stem, dot, suffix = name.rpartition(".")
    suffix = _first_bytes(dot + suffix, MAX_NAME_BYTES // 4) if stem else ""
    return _first_bytes(stem or name, MAX_NAME_BYTES - len(suffix.encode())) + suffix or "file"


def _first_bytes(text: str, most: int) -> str:
    return text.encode(errors="ignore")[:most].decode(errors="ignore")


def check_harmless(name: str, beginning: bytes) -> None:
    """Refuse what runs when it is opened. Raises ValidationError."""
    if name.lower().endswith(_EXECUTABLE_SUFFIXES) or beginning.startswith(_EXECUTABLE_BEGINNINGS):
        raise ValidationError("`file` must not be executable")


def content_type_of(name: str) -> str:
    """What a file of this name should be."""
    content_type, _ = _content_types.guess_type(f"file{PurePosixPath(name).suffix}", strict=False)
    return content_type or UNKNOWN_CONTENT_TYPE


def describe(event: dict[str, Any], stored: StoredFile | None) -> None:
    """Complete a file event by what is known of its file; of one that is not here, that is its URL."""
    if stored is None:
        path = PurePosixPath("".join(filter(str.isprintable, unquote(urlsplit(event["url"]).path))))
        event["name"] = path.name[-MAX_NAME_BYTES:] or "file"
        event["content_type"] = content_type_of(path.name)
    else:
        event |= {"name": stored.name, "url": stored.url(), "content_type": stored.content_type}
    if stored is not None and stored.is_image:
        event |= {
            "thumbnail_url": stored.url(THUMBNAIL),
            "thumbnail2x_url": stored.url(THUMBNAIL_2X),
            "size": stored.size,
            "width": stored.width,
            "height": stored.height,
        }
    if not event["content_type"].startswith("image/"):
        event.pop("alternative_text", None)
