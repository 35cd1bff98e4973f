"""Ids in the protocol's forms: chats and threads are 10 upper-case letters and digits, events `<thread>_<n>`."""

import re
import secrets
import string

ALPHABET = string.ascii_uppercase + string.digits
_LENGTH = 10


def new_chat_id() -> str:
    """A random id of a chat or thread: 36**10 values, and the store refuses the one that comes twice."""
    number = secrets.randbelow(36**_LENGTH)
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 36)
        digits.append(ALPHABET[digit])
    return "".join(digits)


new_thread_id = new_chat_id


def event_id(thread_id: str, number: int) -> str:
    """The id of a thread's event; `number` counts from 1."""
    return f"{thread_id}_{number}"


def event_number(thread_id: str, event_id: str) -> int | None:
    """The inverse of `event_id`; None for what is no id of an event of this thread."""
    of_thread, _, number = event_id.rpartition("_")
    return int(number) if of_thread == thread_id and re.fullmatch("[1-9][0-9]{0,8}", number) else None
