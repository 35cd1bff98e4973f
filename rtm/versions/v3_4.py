"""3.4, where it is not as 3.5.

- login takes `push_notifications`, for mobile devices; nothing is sent to them.
- list_archives calls the filter `forms` `surveys`, and knows no `customer_countries`.
- Changes of auto access rules are three pushes in place of one; there are none about tags and statuses of groups.
- A work schedule has one span a day, by the day's name.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing import Any, Literal

from rtm.model.payload import Payload
from rtm.model.requests.archives import ArchivesFilters
from rtm.model.requests.sessions import Login, Token
from rtm.model.shown import WorkScheduler
from rtm.versions.differences import Differs, Object

LIFECYCLE = {"Deprecation": "2027-06-30"}
ABSENT_ACTIONS = frozenset({"get_license_info"})
OWN_ACTIONS = frozenset({"change_push_notifications"})
ABSENT_PUSHES = frozenset(
    {"auto_accesses_updated", "groups_status_updated", "tag_created", "tag_deleted", "tag_updated"}
)
OWN_PUSHES = frozenset({"auto_access_added", "auto_access_deleted", "auto_access_updated"})


class PushNotifications(Payload):
    """A mobile device; it is told nothing."""

    firebase_token: Token | None = None
    platform: Literal["android", "ios"]


class _OnADevice(Payload):
    push_notifications: PushNotifications | None = None


def _checked_device(login: Object) -> Object:
    _OnADevice.parse(login)
    return login


def _span_a_day(scheduler: Object) -> Object:
    """Of several spans in a day, what 3.4 can tell is from when to when they reach."""
    days: dict[str, Any] = {}
    for span in scheduler["schedule"]:
        if span["enabled"]:
            day = days.setdefault(span["day"], {"start": span["start"], "end": span["end"]})
            day.update(start=min(day["start"], span["start"]), end=max(day["end"], span["end"]))
    return days


STRUCTURES = {
    ArchivesFilters: Differs(without=("customer_countries",), renamed={"forms": "surveys"}),
    Login: Differs(fields={"push_notifications": PushNotifications}, read=_checked_device),
    WorkScheduler: Differs(shown=_span_a_day),
}
