"""What a file event says about its file."""

import mimetypes
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

MAX_NAME_LENGTH = 255
UNKNOWN_CONTENT_TYPE = "application/octet-stream"

_content_types = mimetypes.MimeTypes()  # those Python knows, not those of the machine's own tables


def describe(url: str) -> dict[str, Any]:
    """`name`, `url` and `content_type` of a file that nothing is known of but its URL.

    A file that was uploaded here has more to tell (`size`, `width`, `height`, thumbnails): this is the one place to ask
    for it.
    """
    path = PurePosixPath("".join(filter(str.isprintable, unquote(urlsplit(url).path))))
    content_type, _ = _content_types.guess_type(f"file{path.suffix}", strict=False)
    return {
        "name": path.name[-MAX_NAME_LENGTH:] or "file",
        "url": url,
        "content_type": content_type or UNKNOWN_CONTENT_TYPE,
    }
