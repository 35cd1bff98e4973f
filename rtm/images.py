"""What an image is, and its thumbnails, made by a process of its own: decoders are where hostile images do their harm.

`python -m rtm.images` reads one image, writes a line of JSON (`Image` without its thumbnails, and their lengths; `{}`
for what is no image; `{"pixels": ...}` for one that has too many) and the thumbnails, and ends. So an image that
crashes or stalls it, or takes all the memory it may have, is one that cannot be read. It costs 0.1 s of CPU.
"""

import io
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import orjson

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 64_000_000
"""Four bytes each, twice, when they are decoded; the largest cameras of telephones have 50 million."""
THUMBNAIL_PIXELS = (300, 600)
"""The longer side at most, of a thumbnail and of one for screens with twice the resolution."""
THUMBNAIL_TYPE = "image/webp"
_MEMORY_BYTES = 1 << 30
_CPU_S = 5
"""Four times what a picture of MAX_PIXELS takes where this was written."""
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
CONTENT_TYPES = tuple(f"image/{name.lower()}" for name in _FORMATS)
"""What every browser shows, and nothing in it can run."""
BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
"""What has another beginning is none of them."""


class TooManyPixels(Exception):
    """The image has more than MAX_PIXELS."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is shown, upright, and its thumbnails in the order of THUMBNAIL_PIXELS."""

    content_type: str
    width: int
    height: int
    thumbnails: tuple[bytes, ...]


async def read(content: bytes) -> Image | None:
    """The image, None for what is none that we can read. Raises TooManyPixels."""
    command = [sys.executable, "-m", __name__]
    done = await anyio.run_process(command, input=content, check=False, stderr=subprocess.DEVNULL)
    if done.returncode != 0:
        return None
    head, _, rest = done.stdout.partition(b"\n")
    found = orjson.loads(head)
    if "pixels" in found:
        raise TooManyPixels
    if not found:
        return None
    first, _ = found.pop("lengths")
    return Image(**found, thumbnails=(rest[:first], rest[first:]))


def _main() -> None:
    os.nice(10)  # the server's own process comes first
    for limit, most in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_CPU, _CPU_S)):
        resource.setrlimit(limit, (most, most))
    try:
        image = decode(sys.stdin.buffer.read())
    except TooManyPixels:
        _write({"pixels": MAX_PIXELS})
        return
    if image is None:
        _write({})
        return
    lengths = [len(thumbnail) for thumbnail in image.thumbnails]
    _write(
        {"content_type": image.content_type, "width": image.width, "height": image.height, "lengths": lengths},
        *image.thumbnails,
    )


def _write(head: object, *thumbnails: bytes) -> None:
    sys.stdout.buffer.write(b"".join((orjson.dumps(head), b"\n", *thumbnails)))


def decode(content: bytes) -> Image | None:
    """The same as `read`, in this process."""
    from PIL import Image as Pillow

    Pillow.MAX_IMAGE_PIXELS = None  # looked at below, where it is no warning
    try:
        with Pillow.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_pixels(image)
            # A JPEG with further pictures behind it, as some cameras take, is a JPEG for everybody else.
            content_type = Pillow.MIME["JPEG" if image.format == "MPO" else image.format or ""]
            if content_type not in CONTENT_TYPES:
                return None
            width, height, thumbnails = _thumbnails(image)
    except TooManyPixels:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises anything
        return None
    return Image(content_type, width, height, thumbnails)


def _check_pixels(image: "ImageFile") -> None:
    if image.width * image.height > MAX_PIXELS:
        raise TooManyPixels


def _thumbnails(image: "ImageFile") -> tuple[int, int, tuple[bytes, ...]]:
    """Width and height when it is upright, and the thumbnails, which have neither metadata nor a second frame."""
    from PIL import ImageOps
    from PIL.ExifTags import Base
    from PIL.Image import Resampling

    is_sideways = image.getexif().get(Base.Orientation) in (5, 6, 7, 8)
    width, height = reversed(image.size) if is_sideways else image.size
    image.draft("RGB", (THUMBNAIL_PIXELS[-1], THUMBNAIL_PIXELS[-1]))  # a JPEG is decoded no larger than need be
    upright = ImageOps.exif_transpose(image)
    shown = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    thumbnails = []
    for pixels in reversed(THUMBNAIL_PIXELS):
        shown.thumbnail((pixels, pixels), Resampling.LANCZOS)
        written = io.BytesIO()
        shown.save(written, "WEBP", quality=80)
        thumbnails.append(written.getvalue())
    return width, height, tuple(reversed(thumbnails))


if __name__ == "__main__":
    _main()
