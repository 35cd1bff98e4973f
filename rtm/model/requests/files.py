"""Payloads about files."""

from typing import Annotated

from rtm.model.files import Upload
from rtm.model.payload import Expected, Payload


class UploadFile(Payload):
    """`upload_file`; a form with a file in its field `file`."""

    file: Annotated[Upload, Expected("must be a file")]
