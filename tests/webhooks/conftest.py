"""Rows of the feed as the orders agent writes them."""

import json
from typing import Any

from connectors.ports import Told
from connectors.postgres import feed


async def tell(connection: Any, *versions: int, audience: str = "cdot", kind: str = "work-order") -> None:
    """Tell a department of one order, in one transaction per version; supervisors read the order themselves."""
    for version in versions:
        body = json.dumps({"reference": "WO-00000-00000", "version": version}) if audience else None
        async with connection.transaction():
            await feed.add(connection, [Told(audience, kind, "WO-00000-00000", version, body)])
