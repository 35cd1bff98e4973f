"""3.4, where it is not as 3.5.

- login takes `push_notifications`, for mobile devices; nothing is sent to them.
- list_archives calls the filter `forms` `surveys`.
- Changes of auto access rules are three pushes in place of one; there are none about tags and statuses of groups.
- A work schedule has one span a day, by the day's name.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing import Any

Object = dict[str, Any]

ABSENT_ACTIONS = frozenset({"get_license_info"})
OWN_ACTIONS = frozenset({"change_push_notifications"})
ABSENT_PUSHES = frozenset(
    {"auto_accesses_updated", "groups_status_updated", "tag_created", "tag_deleted", "tag_updated"}
)
OWN_PUSHES = frozenset({"auto_access_added", "auto_access_deleted", "auto_access_updated"})


def _list_archives_request(payload: Object) -> Object:
    filters = payload.get("filters")
    if not isinstance(filters, dict) or "surveys" not in filters:
        return payload
    return payload | {"filters": {"forms" if name == "surveys" else name: value for name, value in filters.items()}}


def _list_archives_parameters(names: list[str]) -> list[str]:
    return ["filters.surveys" if name == "filters.forms" else name for name in names]


def _login_parameters(names: list[str]) -> list[str]:
    return [
        *names,
        "push_notifications",
        "push_notifications.firebase_token",
        "push_notifications.platform",
    ]


def _with_work_scheduler(payload: Object) -> Object:
    """Of several spans in a day, what 3.4 can tell is from when to when they reach."""
    if "work_scheduler" not in payload:
        return payload
    days: dict[str, Object] = {}
    for span in payload["work_scheduler"]["schedule"]:
        if span["enabled"]:
            day = days.setdefault(span["day"], {"start": span["start"], "end": span["end"]})
            day.update(start=min(day["start"], span["start"]), end=max(day["end"], span["end"]))
    return payload | {"work_scheduler": days}


REQUESTS = {"list_archives": _list_archives_request}
PARAMETERS = {"list_archives": _list_archives_parameters, "login": _login_parameters}
RESPONSES: dict[str, Any] = {}
PUSHES = dict.fromkeys(("agent_created", "agent_updated", "bot_created", "bot_updated"), _with_work_scheduler)
