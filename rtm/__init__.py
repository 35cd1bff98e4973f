"""A self-hosted live-chat server that speaks the LiveChat platform protocol; `docs/architecture.md` is its map."""

__version__ = "0.1.0"
