"""Pure: an order computed again from its causes and its ledger alone."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agents.orders.decide import OrderInputs, decide
from connectors.ports import KnownOrder, SiteRows
from schemas.policy import Policy
from schemas.work_order import WorkOrder


class Again(NamedTuple):
    """An order as it is stored and as its ledger has it; `body`: canonical JSON. None: its policy is not stored."""

    stored: KnownOrder
    order: WorkOrder | None
    body: str

    @property
    def reference(self) -> str:
        """What people call it."""
        return self.stored.order.reference

    @property
    def differs(self) -> bool:
        """Whether the two differ in any byte."""
        return self.order is None or self.stored.order.model_dump_json() != self.body


def again(rows: SiteRows, policies: Mapping[str, Policy]) -> Iterable[Again]:
    """Every order of a site, decided again by the policy that it was decided by."""
    for known in rows.orders:
        policy = policies.get(known.order.policy_version)
        if policy is None:
            yield Again(known, None, "")
            continue
        order, decision = decide(_inputs(rows, known.order), policy)
        yield Again(known, order, decision.output)


def _inputs(rows: SiteRows, order: WorkOrder) -> OrderInputs:
    causes = sorted(
        (row for row in rows.causes if row.generation == order.generation), key=lambda row: row.cause_id
    )
    bodies = ",".join(row.body for row in causes)
    entries = [entry for entry in rows.entries.get(order.order_id, ()) if entry.verdict != "refused"]
    inputs = OrderInputs.model_validate_json(f'{{"causes":[{bodies}],"generation":{order.generation}}}')
    return inputs.model_copy(update={"entries": tuple(entries)})
