"""Pages of any origin may call the Web API: a token is something they hold, not a cookie that comes by itself.

Who names no origin is no page, and pays 1 µs in place of 6.
"""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_ACTIONS = "/agent/action/"
_SENT = ("Authorization", "Content-Type", "X-Region", "X-API-Version", "X-Author-Id", "X-Request-Id")
_READ = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After", "Legacy", "Deprecation")


class Browsers:
    """Answers what a browser asks before a page's request, and lets the page read the answer to that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._for_pages = CORSMiddleware(
            app, allow_origins=["*"], allow_methods=["POST"], allow_headers=_SENT, expose_headers=_READ
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._for_pages if _is_of_a_page(scope) else self._app
        await app(scope, receive, send)


def _is_of_a_page(scope: Scope) -> bool:
    if scope["type"] != "http" or _ACTIONS not in scope["path"]:
        return False
    return any(name == b"origin" for name, _ in scope["headers"])
