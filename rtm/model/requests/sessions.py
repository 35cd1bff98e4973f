"""Payloads about connections and routing statuses."""

from typing import Annotated, Literal

from pydantic import Field

from rtm.model.payload import AtMost, GroupIds, Id, Payload, Text

Token = Annotated[str, Text(4096, least=1)]
ApplicationText = Annotated[str, Text(256)]
PushNames = Annotated[list[Annotated[str, Text(128)]], AtMost(200)]
MonitoringLevel = Literal["my", "chatting", "invited", "online", "highest_available"]
RoutingStatus = Literal["accepting_chats", "not_accepting_chats", "offline"]
WantedPushes = Annotated[
    dict[Annotated[str, Text(16)], PushNames],
    AtMost(16),
    Field(
        description="Names of pushes by version: these are sent, in that version's form, and no others. `all` is all "
        "of a version. If missing, all of the socket's version."
    ),
]
Away = Annotated[
    bool,
    Field(
        description="Nobody is at this connection. An agent whose connections are all away is given no chats until one "
        "is back, or somebody sets its status."
    ),
]
_MONITORING_LEVEL = (
    "Which customers to be told of: `my`, those in the agent's own chats; by any other level all that it may see. If "
    "missing, as the agent's last connection has it, or `my`."
)


class Application(Payload):
    """The program that holds the connection."""

    name: ApplicationText | None = None
    version: ApplicationText | None = None


class Login(Payload):
    """`login`"""

    token: Token
    timezone: Annotated[str, Text(64)] | None = None
    reconnect: Annotated[
        bool,
        Field(
            description="`true`: the first connection gives the agent its routing status of before, not the default."
        ),
    ] = False
    application: Application | None = None
    away: Away = False
    customer_monitoring_level: Annotated[MonitoringLevel | None, Field(description=_MONITORING_LEVEL)] = None
    pushes: WantedPushes | None = None


class Logout(Payload):
    """`logout`"""


class Ping(Payload):
    """`ping`"""


class UpdateSession(Payload):
    """`update_session`"""

    token: Token


class GetLicenseInfo(Payload):
    """`get_license_info`, of 3.5."""


class ChangePushNotifications(Payload):
    """`change_push_notifications`, of 3.4."""

    firebase_token: Token
    platform: Literal["ios", "android"]
    enabled: bool


class SetAwayStatus(Payload):
    """`set_away_status`"""

    away: Away


class SetRoutingStatus(Payload):
    """`set_routing_status`; the requester's if no agent is named. Only bots may be set `offline`."""

    status: RoutingStatus
    agent_id: Id | None = None


class RoutingStatusesFilters(Payload):
    """Agents of these groups."""

    group_ids: GroupIds | None = None


class ListRoutingStatuses(Payload):
    """`list_routing_statuses`"""

    filters: RoutingStatusesFilters | None = None
