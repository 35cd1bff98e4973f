"""What a socket's address asks for: `/v3.6/agent/rtm/ws?organization_id=...`."""

import re
from urllib.parse import parse_qs

from rtm import versions
from rtm.gateway.session import Gateway, Session
from rtm.gateway.unsupported import UnsupportedSession
from rtm.gateway.wire import WireSession
from rtm.protocol.errors import NotFound, ValidationError

_PATH = re.compile(r"/v([0-9.]{1,16})/agent/rtm/ws/?")
MAX_ORGANIZATION_ID_LENGTH = 64
MAX_QUERY_FIELDS = 20


def session_at(gateway: Gateway, path: str, query: str) -> WireSession:
    """A session for the socket. Raises NotFound, ValidationError."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise NotFound("There is nothing at this path")
    version = match[1]
    if version not in versions.SERVED:
        return UnsupportedSession()
    try:
        organization_ids = parse_qs(query, max_num_fields=MAX_QUERY_FIELDS).get("organization_id", [])
    except ValueError:
        raise ValidationError(f"Query must have at most {MAX_QUERY_FIELDS} fields") from None
    organization_id = organization_ids[0] if organization_ids else None
    if organization_id is not None and len(organization_id) > MAX_ORGANIZATION_ID_LENGTH:
        raise ValidationError(f"`organization_id` must be at most {MAX_ORGANIZATION_ID_LENGTH} characters long")
    return Session(gateway, version, organization_id)
