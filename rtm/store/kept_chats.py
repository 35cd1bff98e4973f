"""Chats that a process keeps in memory though others change them, too: good while their license's row is the same.

Whoever changes a chat writes its license's row in the same transaction, and holds it locked before. So when a process
has the lock, and the row's version is the one that it left or saw last, no chat of that license has changed since.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from rtm.model.chat import Chat

MAX_LICENSES = 20_000
"""Of which something is kept."""


class Bounds:
    """Counts what is kept, and says when it is too much."""

    max_chats = 20_000
    """Most of them 3 to 7 KB each."""
    max_bytes = 128 << 20
    """Of memory, about."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        """By id of the chat."""
        self._bytes = 0

    @property
    def exceeded(self) -> bool:
        return self._bytes > self.max_bytes or len(self.sizes) > self.max_chats

    def kept(self, chat_id: str, size: int) -> None:
        """The chat is kept, and takes so many bytes of memory now."""
        self._bytes += size - self.sizes.get(chat_id, 0)
        self.sizes[chat_id] = size

    def grown(self, chat_id: str, size: int) -> None:
        """It has got an event of so many bytes."""
        self._bytes += size
        self.sizes[chat_id] = self.sizes.get(chat_id, 0) + size

    def forgotten(self, chat_id: str) -> None:
        """It is kept no longer."""
        self._bytes -= self.sizes.pop(chat_id)


@dataclass(slots=True)
class _License:
    version: str
    chats: OrderedDict[str, Chat] = field(default_factory=OrderedDict)
    """In the order of their last use."""


class KeptChats:
    """As many as there is room for; licenses that have not been used for longest give way first, and their chats."""

    def __init__(self) -> None:
        self._bounds = Bounds()
        self._licenses: dict[int, _License] = {}

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of memory, about, by id."""
        return self._bounds.sizes

    def locked(self, license_id: int, version: str) -> None:
        """The license's row is ours until the end of the batch, and has this version."""
        kept = self._licenses.pop(license_id, None)
        if kept is None or kept.version != version:
            if kept is not None:
                self._forget_all(kept)
            kept = _License(version)
        self._licenses[license_id] = kept

    def committed(self, license_id: int, version: str) -> None:
        """We have changed the license, and the row has this version now."""
        self._licenses[license_id].version = version

    def find(self, license_id: int, chat_id: str) -> Chat | None:
        """A chat of a license that is locked."""
        kept = self._licenses.get(license_id)
        if kept is None or chat_id not in kept.chats:
            return None
        kept.chats.move_to_end(chat_id)
        return kept.chats[chat_id]

    def keep(self, chat: Chat, size: int) -> None:
        """Of a license that is locked; as the batch found it, or as it was committed, with so many bytes."""
        self._licenses[chat.license_id].chats[chat.id] = chat
        self._bounds.kept(chat.id, size)

    def grown(self, chat_id: str, size: int) -> None:
        """An event of so many bytes was committed."""
        self._bounds.grown(chat_id, size)

    def forget(self, chat: Chat) -> None:
        """It was changed, and the change is not stored."""
        kept = self._licenses.get(chat.license_id)
        if kept is not None and kept.chats.pop(chat.id, None) is not None:
            self._bounds.forgotten(chat.id)

    def _forget_all(self, kept: _License) -> None:
        for chat_id in kept.chats:
            self._bounds.forgotten(chat_id)

    def make_room(self) -> None:
        """Between batches."""
        while self._bounds.exceeded or len(self._licenses) > MAX_LICENSES:
            license_id, kept = next(iter(self._licenses.items()))
            if len(self._licenses) > 1:
                self._forget_all(kept)
                del self._licenses[license_id]
            else:
                self.forget(next(iter(kept.chats.values())))
