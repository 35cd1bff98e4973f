"""3.4, where it is not as 3.5.

- login takes `push_notifications`, for mobile devices; nothing is sent to them.
- list_archives calls the filter `forms` `surveys`, and knows no `customer_countries`.
- There is no push about statuses of groups.

Source: the public reference, "Changelog" of the Agent Chat API, and the tables of both versions.
"""

from typing import Literal

from rtm.model.payload import Payload
from rtm.model.requests.archives import ArchivesFilters
from rtm.model.requests.sessions import Login, Token
from rtm.versions.differences import Differs, Object

LIFECYCLE = {"Deprecation": "2027-06-30"}
ABSENT_ACTIONS = frozenset({"get_license_info"})
OWN_ACTIONS = frozenset({"change_push_notifications"})
ABSENT_PUSHES = frozenset({"groups_status_updated"})


class PushNotifications(Payload):
    """A mobile device; it is told nothing."""

    firebase_token: Token | None = None
    platform: Literal["android", "ios"]


class _OnADevice(Payload):
    push_notifications: PushNotifications | None = None


def _checked_device(login: Object) -> Object:
    _OnADevice.parse(login)
    return login


STRUCTURES = {
    ArchivesFilters: Differs(without=("customer_countries",), renamed={"forms": "surveys"}),
    Login: Differs(fields={"push_notifications": PushNotifications}, read=_checked_device),
}
