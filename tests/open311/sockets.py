"""An app on a real socket, in this process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

START_S = 10.0


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app's address, for as long as it is served."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server._serve([listening]))  # without its handlers of signals
        async with asyncio.timeout(START_S):
            while not server.started:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        async with asyncio.timeout(START_S):
            await task
