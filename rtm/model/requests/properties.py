"""Payloads about the properties of chats, threads and events, and about the tags of threads."""

from typing import Annotated

from rtm.model.payload import Id, Payload, Text
from rtm.model.properties import PropertiesToDelete, PropertiesToSet


class UpdateChatProperties(Payload):
    """`update_chat_properties`"""

    id: Id
    properties: PropertiesToSet


class DeleteChatProperties(Payload):
    """`delete_chat_properties`"""

    id: Id
    properties: PropertiesToDelete


class OfThread(Payload):
    """A thread of a chat, the last one or an earlier one."""

    chat_id: Id
    thread_id: Id


class UpdateThreadProperties(OfThread):
    """`update_thread_properties`"""

    properties: PropertiesToSet


class DeleteThreadProperties(OfThread):
    """`delete_thread_properties`"""

    properties: PropertiesToDelete


class RequestThreadSummary(OfThread):
    """`request_thread_summary`"""


class TagThread(OfThread):
    """`tag_thread`"""

    tag: Annotated[str, Text(256, least=1)]


class UntagThread(TagThread):
    """`untag_thread`"""


class OfEvent(OfThread):
    """An event of a thread."""

    event_id: Id


class UpdateEventProperties(OfEvent):
    """`update_event_properties`"""

    properties: PropertiesToSet


class DeleteEventProperties(OfEvent):
    """`delete_event_properties`"""

    properties: PropertiesToDelete
