"""The app: gate, problem documents, routers. Made by `create_app`, composed in infra/serve.py."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI

from connectors.http import places, problems
from connectors.http.access import Guard, LetIn
from connectors.http.limits import Gate
from connectors.http.openapi import document
from connectors.http.parameters import OnlyKnown
from connectors.http.parts import Parts
from connectors.http.routes import ROUTERS

TITLE: Final = "Rapid Response"

Running = Callable[[], AbstractAsyncContextManager[None]]
"""What runs as long as the app does: publisher, fan-out, sweeping."""


def create_app(parts: Parts, others: Sequence[APIRouter] = (), running: Sequence[Running] = ()) -> FastAPI:
    """The API. Every route of ROUTERS asks who it is, and lets in by the table in access.py.

    `others`: routers that see to that themselves, where a standard wants another way. `running`: entered when the
    app starts, left when it ends.
    """
    app = FastAPI(
        title=TITLE,
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # the pages that come with the framework load scripts from foreign hosts
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan(running),
    )
    app.state.parts = parts
    app.state.guard = Guard(parts)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router, dependencies=[LetIn, OnlyKnown])
    for router in (places.health, *others):
        app.include_router(router)
    app.add_middleware(Gate, limits=parts.limits)
    app.openapi = document(app)  # type: ignore[method-assign]  # the framework's own way to change it
    return app


def _lifespan(running: Sequence[Running]) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the framework's signature
        async with AsyncExitStack() as stack:
            for one in running:
                await stack.enter_async_context(one())
            yield

    return lifespan
