"""Page ids: opaque, signed, and good for a month.

A page id holds what the first page was asked for and where to go on, so that the next request needs nothing else.
"""

from typing import Any

import orjson
from itsdangerous import BadSignature, URLSafeTimedSerializer

from rtm.protocol.errors import ValidationError
from rtm.store.database import Database
from rtm.store.queries import Cursor
from rtm.store.secrets import shared_secret

LIFETIME_S = 31 * 24 * 3600


class _Json:
    dumps = staticmethod(lambda value, **_: orjson.dumps(value).decode())
    loads = staticmethod(orjson.loads)


class PageIds:
    """Writes and reads page ids, signed with a secret that all processes of the system share."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._serializer: URLSafeTimedSerializer

    async def start(self) -> None:
        """Read the secret, or make it."""
        secret = await shared_secret(self._database, "page_ids")
        self._serializer = URLSafeTimedSerializer(secret, salt="page_id", serializer=_Json)

    def write(self, kind: str, asked: dict[str, Any], cursor: Cursor) -> str:
        """The id of the page at `cursor` of what was `asked`."""
        return str(self._serializer.dumps([kind, asked, cursor.at, cursor.id, cursor.backwards]))

    def read(self, kind: str, page_id: str) -> tuple[dict[str, Any], Cursor]:
        """What was asked, and where to go on. Raises ValidationError for an id that is not ours or too old."""
        try:
            of_kind, asked, at, id_, backwards = self._serializer.loads(page_id, max_age=LIFETIME_S)
        except BadSignature:
            raise ValidationError("`page_id` is not valid or has expired") from None
        if of_kind != kind:
            raise ValidationError("`page_id` belongs to another list")
        return asked, Cursor(at, id_, backwards)
