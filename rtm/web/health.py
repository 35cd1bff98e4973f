"""Whether the process is up."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def live(request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


routes = [Route("/health/live", live)]
