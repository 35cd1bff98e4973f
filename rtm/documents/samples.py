"""Samples of what fits a schema, such as a request to copy: what is required, and what says most beside it."""

from typing import Any

from rtm.documents.schemas import Json

_CUSTOMER_ID = "b7eff798-f8df-4364-8059-649c35c9ed0c"
_AGENT_ID = "smith@example.com"

_ALSO: dict[str, tuple[str, ...]] = {
    "ArchivedThread": ("events", "access"),
    "ArchivesFilters": ("query", "group_ids"),
    "Chat": ("thread",),
    "ChatInfo": ("last_thread_info",),
    "ChatSummary": ("last_thread_summary",),
    "ChatsFilters": ("group_ids",),
    "CreateCustomer": ("name", "email", "session_fields"),
    "Customer": ("name", "email"),
    "CustomerUpdated": ("name", "email"),
    "FollowableChat": ("thread",),
    "GetChat": ("thread_id",),
    "InitialChat": ("access", "thread"),
    "InitialThread": ("events",),
    "ListArchives": ("filters", "limit"),
    "ListChats": ("filters", "limit"),
    "ListRoutingStatuses": ("filters",),
    "ListThreads": ("limit",),
    "MulticastAgents": ("groups",),
    "NoLongerFollowed": ("chat_id",),
    "RoutingStatusesFilters": ("group_ids",),
    "SendThinkingIndicator": ("title", "description"),
    "SetRoutingStatus": ("agent_id",),
    "StartChat": ("chat", "continuous"),
    "Thread": ("events", "access"),
    "UpdateCustomer": ("name", "session_fields"),
}
"""Optional fields that samples of a structure have."""

_NAMED: dict[str, Any] = {
    "Agent.id": _AGENT_ID,
    "ArchivedThread.id": "K600PKZON8",
    "BanCustomer.id": _CUSTOMER_ID,
    "Customer.id": _CUSTOMER_ID,
    "CustomerUpdated.id": _CUSTOMER_ID,
    "CustomerWithChats.id": _CUSTOMER_ID,
    "GetCustomer.id": _CUSTOMER_ID,
    "IncomingCustomer.id": _CUSTOMER_ID,
    "InitialUser.id": _CUSTOMER_ID,
    "License.id": "100008888",
    "MulticastAgents.groups": [1],
    "MyProfile.id": _AGENT_ID,
    "MessageEvent.id": "K600PKZON8_1",
    "Thread.id": "K600PKZON8",
    "ThreadInfo.id": "K600PKZON8",
    "ThreadSummary.id": "K600PKZON8",
    "UpdateCustomer.id": _CUSTOMER_ID,
    "agent_id": _AGENT_ID,
    "agent_ids": [_AGENT_ID],
    "author_id": _AGENT_ID,
    "chat_id": "PJ0MRSHTDG",
    "customer_id": _CUSTOMER_ID,
    "email": "t.anderson@example.com",
    "event_id": "K600PKZON8_1",
    "event_ids": ["K600PKZON8_1"],
    "group_ids": [1],
    "id": "PJ0MRSHTDG",
    "name": "Thomas Anderson",
    "organization_id": "390e44e6-f1e6-4368-96dd-74b14508c2e1",
    "plan": "business",
    "properties": {"0805e283233042b37f460ed8fbf22160": {"string_property": "string value"}},
    "query": "refund",
    "reason": "manual",
    "session_fields": [{"custom_key": "custom_value"}],
    "tag": "bug_report",
    "text": "Hello",
    "thread_id": "K600PKZON8",
    "title": "Thinking",
    "token": "Bearer dal:...",
    "user_id": _AGENT_ID,
    "user_ids": [_AGENT_ID],
}
"""By field, or by structure and field."""

_NAMES_TO_DELETE = {"0805e283233042b37f460ed8fbf22160": ["string_property"]}
_OF_FORMAT = {"date-time": "2026-11-22T07:27:08.820000Z", "uri": "https://example.com/image.png"}
_KINDS: dict[type, str] = {str: "string", list: "array", dict: "object"}
_OF_TYPE: Json = {"string": "...", "boolean": True, "number": 1, "object": {}, "array": []}


def sample(schema: Json, structures: dict[str, Json], field: str = "") -> Any:
    """A value that fits the schema, of the field of that name."""
    if "$ref" in schema:
        return sample(structures[schema["$ref"].rpartition("/")[2]], structures, field)
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return sample(schema[choice][0], structures, field)
    if "properties" in schema:
        return _of_fields(schema, structures)
    return _plain(schema, structures, field)


def _of_fields(schema: Json, structures: dict[str, Json]) -> Json:
    structure = schema.get("title", "")
    wanted = {*schema.get("required", ()), *_ALSO.get(structure, ())}
    return {
        name: _NAMED[f"{structure}.{name}"] if f"{structure}.{name}" in _NAMED else sample(of, structures, name)
        for name, of in schema["properties"].items()
        if name in wanted
    }


def _plain(schema: Json, structures: dict[str, Json], field: str) -> Any:
    kind = schema.get("type")
    if field == "properties" and "items" in schema.get("additionalProperties", {}):
        return _NAMES_TO_DELETE
    if field in _NAMED and _KINDS[type(_NAMED[field])] == kind:
        return _NAMED[field]
    if kind == "array":
        return [sample(schema["items"], structures, field)] if "items" in schema else []
    if kind == "integer":
        return schema.get("minimum", 1)
    return _OF_FORMAT.get(schema.get("format", "")) or _OF_TYPE.get(str(kind), {})
