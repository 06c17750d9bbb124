"""The routers of the API itself: all of them behind the table in access.py."""

from typing import Final

from fastapi import APIRouter

from connectors.http import (
    alerts,
    dead_letters,
    exports,
    orders,
    places,
    reports,
    responses,
    sources,
    stream,
    updates,
)

ROUTERS: Final[tuple[APIRouter, ...]] = (
    reports.router,
    sources.router,
    responses.router,
    orders.router,
    updates.router,
    alerts.router,
    dead_letters.router,
    exports.router,
    stream.router,
    places.router,
)
