"""Chats that a process keeps in memory though others change them, too: good while their license's row is the same.

Whoever changes a chat writes its license's row in the same transaction, and holds it locked before. So when a process
has the lock, and the row's version is the one that it left or saw last, no chat of that license has changed since.
"""

from dataclasses import dataclass, field

from rtm.model.chat import Chat


@dataclass(slots=True)
class _License:
    version: str
    chats: dict[str, Chat] = field(default_factory=dict)


class KeptChats:
    """At most `limit` chats; licenses that have not been used for longest give way first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._licenses: dict[int, _License] = {}
        self._count = 0

    def locked(self, license_id: int, version: str) -> None:
        """The license's row is ours until the end of the batch, and has this version."""
        kept = self._licenses.pop(license_id, None)
        if kept is None or kept.version != version:
            self._count -= len(kept.chats) if kept is not None else 0
            kept = _License(version)
        self._licenses[license_id] = kept

    def committed(self, license_id: int, version: str) -> None:
        """We have changed the license, and the row has this version now."""
        self._licenses[license_id].version = version

    def find(self, license_id: int, chat_id: str) -> Chat | None:
        """A chat of a license that is locked."""
        kept = self._licenses.get(license_id)
        return None if kept is None else kept.chats.get(chat_id)

    def keep(self, chat: Chat) -> None:
        """Of a license that is locked; as the batch found it, or as it was committed."""
        chats = self._licenses[chat.license_id].chats
        self._count += chat.id not in chats
        chats[chat.id] = chat

    def forget(self, chat: Chat) -> None:
        """It was changed, and the change is not stored."""
        kept = self._licenses.get(chat.license_id)
        if kept is not None and kept.chats.pop(chat.id, None) is not None:
            self._count -= 1

    def make_room(self) -> None:
        """Keep to the limit; between batches."""
        while self._count > self._limit:
            license_id, kept = next(iter(self._licenses.items()))
            if len(self._licenses) > 1:
                self._count -= len(kept.chats)
                del self._licenses[license_id]
            else:
                self.forget(next(iter(kept.chats.values())))
