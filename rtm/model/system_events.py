"""System events: like system messages, with JSON in place of a sentence.

Source: the public reference, "System activities", "System events".
"""

import orjson

from rtm.model.chat import EventBody


def summary_event(at: str, text: str, requested_by: str) -> EventBody:
    """The summary that an agent has asked for, created `at`; customers do not see it."""
    details = {"summary": {"text": text, "status": "ok"}, "requested_by": requested_by}
    return {
        "id": "",  # given by the thread that it is added to
        "created_at": at,
        "type": "system",
        "visibility": "agents",
        "source": "messaging",
        "subtype": "summary",
        "version": 1,
        "details": orjson.dumps(details).decode(),
    }
