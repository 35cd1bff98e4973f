"""System messages: events that the server adds to a chat to tell what happened there. They have no author.

Source: the public reference, "System activities", "System messages".
"""

from typing import Literal

from rtm.model.chat import EventBody, Visibility

Kind = Literal[
    "agent_added",
    "agent_joined",
    "agent_left",
    "agent_removed",
    "chat_transferred",
    "customer_added",
    "customer_banned",
    "manual_archived_agent",
    "routing.archived_deleted",
    "routing.archived_disconnected",
    "routing.archived_inactive",
    "routing.archived_offline",
    "routing.archived_other",
    "routing.archived_remotely_signed_out",
    "routing.archived_signed_out",
    "routing.assigned_deleted",
    "routing.assigned_disconnected",
    "routing.assigned_inactive",
    "routing.assigned_other",
    "routing.assigned_remotely_signed_out",
    "routing.assigned_signed_out",
    "routing.idle",
    "routing.unassigned_deleted",
    "routing.unassigned_disconnected",
    "routing.unassigned_other",
    "routing.unassigned_remotely_signed_out",
    "routing.unassigned_signed_out",
]

_TEXTS: dict[Kind, str] = {
    "agent_added": "{initiator} added {agent} to the chat",
    "agent_joined": "{agent} joined the chat",
    "agent_left": "{agent} left the chat",
    "agent_removed": "{initiator} removed {agent} from the chat",
    "chat_transferred": "{initiator} transferred the chat to {targets}",
    "customer_added": "{initiator} added {customer} to the chat",
    "customer_banned": "Chat archived because customer was banned by {agent} for {duration} day(s)",
    "manual_archived_agent": "{agent} archived the chat",
    "routing.archived_deleted": "The chat was closed because {agent} account had been deleted",
    "routing.archived_disconnected": "The chat was closed because {agent} had lost internet connection",
    "routing.archived_inactive": "Chat archived due to {duration} minutes of inactivity",
    "routing.archived_offline": "Chat archived due to no available agents",
    "routing.archived_other": "The chat was closed",
    "routing.archived_remotely_signed_out": "The chat was closed because {agent} had been remotely signed out",
    "routing.archived_signed_out": "The chat was closed because {agent} had signed out",
    "routing.assigned_deleted": "Chat assigned to {agent_added} because {agent_removed} account had been deleted",
    "routing.assigned_disconnected": (
        "Chat assigned to {agent_added} because {agent_removed} had lost internet connection"
    ),
    "routing.assigned_inactive": (
        "Chat assigned to {agent_added} because {agent_removed} hasn't replied in {duration} minutes"
    ),
    # The reference repeats the text of `routing.archived_other` here, which would tell customers what is not so.
    "routing.assigned_other": "Chat assigned to {agent}",
    "routing.assigned_remotely_signed_out": (
        "Chat assigned to {agent_added} because {agent_removed} had been remotely signed out"
    ),
    "routing.assigned_signed_out": "Chat assigned to {agent_added} because {agent_removed} had signed out",
    "routing.idle": "Chat is idle due to {duration} minutes of inactivity",
    "routing.unassigned_deleted": "Customer was queued because {agent} account has been deleted",
    "routing.unassigned_disconnected": "Customer was queued because {agent} had lost internet connection",
    "routing.unassigned_other": "Chat is unassigned",
    "routing.unassigned_remotely_signed_out": "Customer was queued because {agent} had been remotely signed out",
    "routing.unassigned_signed_out": "Customer was queued because {agent} had signed out",
}


def system_message(kind: Kind, at: str, *, visibility: Visibility = "all", **text_vars: str | int) -> EventBody:
    """The event, created `at`, with the variables of its text: names of people and groups, a `duration` as a number.

    Raises KeyError for a variable that is missing.
    """
    shown = {name: str(value) for name, value in text_vars.items()}
    return _body(kind, at, _TEXTS[kind].format(**shown), visibility, shown)


def customer_updated(at: str, *, initiator: str | None, name: str | None, email: str | None) -> EventBody:
    """The customer has another name, e-mail address or both; no `initiator` where an integration gave it."""
    changed = {field: value for field, value in (("name", name), ("email", email)) if value is not None}
    fields, values = " and ".join(changed), ", ".join(changed.values())
    text_vars = {f"customer_{field}": value for field, value in changed.items()}
    if initiator is None:
        text = f"Customer's {fields} has been changed to {values}"
    else:
        text = f"{initiator} has changed customer's {fields} to {values}"
        text_vars["initiator"] = initiator
    return _body("customer_updated", at, text, "agents", text_vars)


def _body(kind: str, at: str, text: str, visibility: Visibility, text_vars: dict[str, str]) -> EventBody:
    body: EventBody = {
        "id": "",  # given by the thread that it is added to
        "created_at": at,
        "type": "system_message",
        "visibility": visibility,
        "text": text,
        "system_message_type": kind,
    }
    if text_vars:
        body["text_vars"] = text_vars
    return body
