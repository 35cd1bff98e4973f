"""A language model to ask: a real HTTP server, whose answers a test may choose."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Model:
    """What it was asked, and what it answers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1/"
        self.asked: list[Any] = []
        self.authorization: list[str | None] = []
        self.status = 200
        self.body: Any = None
        self.answering = asyncio.Event()
        self.answering.set()

    def says(self, text: Any) -> None:
        self.body = {"id": "c1", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}

    async def answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        self.authorization.append(request.headers.get("authorization"))
        await self.answering.wait()
        if isinstance(self.body, bytes):
            return Response(self.body, self.status)
        return JSONResponse(self.body, self.status)


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    listener = socket.create_server(("127.0.0.1", 0))
    model = Model(listener.getsockname()[1])
    model.says("• The customer asks for an order.")
    routes = [Route("/v1/chat/completions", model.answer, methods=["POST"])]
    config = uvicorn.Config(Starlette(routes=routes), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    yield model
    model.answering.set()
    server.should_exit = True
    await serving
