"""Uploading files, to be sent in events."""

from collections.abc import AsyncIterator

from rtm import images
from rtm.actions.context import Context
from rtm.actions.registry import AGENT, WEB, action
from rtm.model.files import (
    BEGINNING_BYTES,
    LIFETIME_S,
    UNKNOWN_CONTENT_TYPE,
    StoredFile,
    Upload,
    check_harmless,
    content_type_of,
    new_id,
    safe_name,
)
from rtm.model.requests.files import UploadFile
from rtm.model.responses import FileUploaded
from rtm.protocol.errors import ValidationError
from rtm.protocol.timestamps import now, seconds_after
from rtm.store.files import PART_BYTES


@action(AGENT, transports=(WEB,), takes_form=True)
async def upload_file(context: Context, payload: UploadFile) -> FileUploaded:
    """Keep a file for a day, or for good if an event shows it by then; the answer says where it is found.

    What it is its content says, of images that browsers show, else its name.
    """
    upload = payload.file
    name = safe_name(upload.name)
    beginning = await upload.content.read(BEGINNING_BYTES)
    check_harmless(name, beginning)
    image = await _image(context, upload) if beginning.startswith(images.BEGINNINGS) else None
    content_type = image.content_type if image is not None else content_type_of(name)
    if image is None and content_type in images.CONTENT_TYPES:
        content_type = UNKNOWN_CONTENT_TYPE
    created_at = now()
    file = StoredFile(
        id=new_id(),
        license_id=context.identity.license_id,
        origin=upload.origin,
        name=name,
        content_type=content_type,
        size=upload.size,
        width=image.width if image is not None else None,
        height=image.height if image is not None else None,
        created_at=created_at,
        expires_at=seconds_after(created_at, LIFETIME_S),
    )
    await context.services.files.add(file, _pieces(upload), image.thumbnails if image is not None else ())
    return {"url": file.url()}


async def _image(context: Context, upload: Upload) -> images.Image | None:
    async with context.services.decoding.of(context.identity.license_id):
        await upload.content.seek(0)
        try:
            return await images.read(await upload.content.read(upload.size))
        except images.TooManyPixels:
            raise ValidationError(f"`file` must be an image of at most {images.MAX_PIXELS} pixels") from None


async def _pieces(upload: Upload) -> AsyncIterator[bytes]:
    await upload.content.seek(0)
    while piece := await upload.content.read(PART_BYTES):
        yield piece
