"""The bindings in force: a lane resolves its own at the start of a batch's transaction, so that one batch is decided
wholly by one policy and one set of boundaries, however often they change meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from agents.messages import Binding, Handle, Message, Outcome


class Switch:
    """Bindings of which the handlers can be exchanged, all at once. What is read stays: see `reads_the_same`."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._handles: dict[str, Handle] = {}
        self.turn(bindings)
        self.bindings = tuple(replace(one, handle=partial(self._handle, one.topic.name)) for one in bindings)
        """For the runner, once and for all."""

    def reads_the_same(self, bindings: Sequence[Binding]) -> bool:
        """Whether these read the same topics: others can only be read by a worker that begins anew."""
        return {one.topic.name for one in bindings} == self._handles.keys()

    def turn(self, bindings: Sequence[Binding]) -> None:
        """From the next batch of each lane on these handle it; what is at work ends as it began."""
        self._handles = {one.topic.name: one.handle for one in bindings}

    async def _handle(self, topic: str, connection: Any, messages: Sequence[Message]) -> Outcome:
        """Called once in a transaction: the handler is looked up here and kept until it ends."""
        return await self._handles[topic](connection, messages)
