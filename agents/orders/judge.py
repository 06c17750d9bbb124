"""Pure: whether an update counts, and the rule that says so."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from agents.orders.life import OF_BOTH, OF_CENTRE, TABLE, effect_of
from schemas.policy import Policy
from schemas.sla import STAGES
from schemas.work_order import OrderState, WorkOrder
from schemas.work_order_update import LedgerEntry, UpdateCommand, Verb, Verdict, misfit

RULES: Final[dict[str, str]] = {
    "counts": "The state table allows it.",
    "nothing_changes": "The order is so already, or past that.",
    "not_possible": "The state table does not allow it.",
    "no_such_order": "A department sees and touches only its own orders.",
    "not_yours_to_say": "Verifying, cancelling and routing are the coordination centre's; the work is its owner's.",
    "misfit": "A verb has members that it needs, and members that it has no use for.",
    "from_the_future": "What has not happened yet is not taken.",
    "unknown_reason": "Only the policy's reasons put an order on hold.",
    "unknown_stage": "Only work that is done in stages has them.",
    "unknown_department": "An order goes to a department of the policy.",
    "version_conflict": "Who names a version is held to it.",
    "nobody_after_the_triage_queue": "The triage queue is where work ends that nobody takes.",
    "work_goes_on": "What is asked for after an order is closed is another order.",
    "order_cancelled": "An order that has ended takes notes only.",
    "unknown_original": "An original is an order of the same department, not cancelled, and no duplicate itself.",
    "too_much_said": "An order's ledger has an end.",
    "same_id_other_content": "An update id stands for one update.",
    "undecodable": "What is no update by the schema says nothing.",
}
"""What each rule says in general."""


MOST_ENTRIES: Final = 300
"""After so many that count, only what brings an order to its end is taken."""
ENDS_WELL: Final[frozenset[Verb]] = frozenset({"resolve", "verify", "cancel", "reject", "route"})


class Judgement(NamedTuple):
    """The verdict on one update, and the sentence that its sender reads."""

    verdict: Verdict
    rule: str
    because: str


class Case(NamedTuple):
    """Everything that a verdict looks at."""

    command: UpdateCommand
    order: WorkOrder
    department: str  # the order's before anybody handed it on
    entries: Sequence[LedgerEntry]  # of its ledger, those that count
    entry: LedgerEntry  # what the update would be, were it to count
    told: int  # the version that the department was told last
    successor: WorkOrder | None  # the order in which the work at this site goes on
    original: WorkOrder | None  # that it is said to be a duplicate of, if there is such an order
    pinned: Policy | None = None  # that the order lives by, where that is not the one in force

    def lives_by(self, policy: Policy) -> Policy:
        """The order's own policy; `policy`: the one in force."""
        return self.pinned or policy

    def is_centre(self, policy: Policy) -> bool:
        """Whether the coordination centre says it: today's, or the one that the order hands on to."""
        return self.command.department in (policy.triage_queue, self.lives_by(policy).triage_queue)


def refused(rule: str, because: str) -> Judgement:
    """A final no."""
    return Judgement("refused", rule, because)


def judge(case: Case, policy: Policy) -> Judgement:
    """The verdict: the first rule that refuses, else what the state table says of its own time.

    Who there is, and where to, is today's to say: `policy` is the one in force. How the order lives, its own policy's.
    """
    for check in _CHECKS:
        refusal = check(case, policy)
        if refusal:
            return refusal
    return _by_the_table(case, policy)


def _by_the_table(case: Case, policy: Policy) -> Judgement:
    verb = case.command.update.verb
    effect, before = effect_of(case.entry, case.entries, case.department, case.lives_by(policy))
    words = before.state.replace("_", " ")
    late = " then" if case.entries and case.entry.at < max(one.at for one in case.entries) else ""
    match effect:
        case "counts":
            return Judgement("accepted", "counts", f"It was {words}{late}: {verb} counts.")
        case "same":
            return Judgement("ignored", "nothing_changes", f"It was {words}{late}: {verb} changes nothing.")
    if before.outcome and verb == "resolve":
        return refused(
            "not_possible", f"It was resolved as {before.outcome}{late}: reopen it to say otherwise."
        )
    possible = ", ".join(sorted(TABLE[before.state]))
    return refused("not_possible", f"It was {words}{late}: {verb} is not possible, but {possible}.")


def _owner_or_centre(case: Case, policy: Policy) -> Judgement | None:
    if case.command.department == case.order.department or case.is_centre(policy):
        return None
    return no_such_order(case.command)


def no_such_order(command: UpdateCommand) -> Judgement:
    """To others than its owner an order does not exist."""
    return refused("no_such_order", f"No order of yours has the reference {command.update.reference}.")


def _may_say(case: Case, policy: Policy) -> Judgement | None:
    sender, verb = case.command.department, case.command.update.verb
    centre, owner = case.is_centre(policy), sender == case.order.department
    if verb in OF_CENTRE and not centre:
        return refused("not_yours_to_say", f"Only the coordination centre may {verb} an order.")
    if verb not in OF_CENTRE | OF_BOTH and not owner:
        return refused("not_yours_to_say", f"Only its owner, {case.order.department}, may {verb} an order.")
    return None


def _fits(case: Case, _: Policy) -> Judgement | None:
    wrong = misfit(case.command.update)
    return refused("misfit", f"{wrong.field}: expected {wrong.expected}.") if wrong else None


def _not_from_the_future(case: Case, policy: Policy) -> Judgement | None:
    at, received = case.command.update.at, case.command.received_at
    skew_s = policy.city.future_skew_s
    if at is None or at <= received + timedelta(seconds=skew_s):
        return None
    ahead_s = round((at - received).total_seconds())
    return refused("from_the_future", f"`at` is {ahead_s} s ahead of us; up to {skew_s} s are allowed.")


def _known_reason(case: Case, policy: Policy) -> Judgement | None:
    known = list(dict.fromkeys(one.code for by in (policy, case.lives_by(policy)) for one in by.hold_reasons))
    if case.command.update.reason is None or case.command.update.reason in known:
        return None
    return refused("unknown_reason", f"reason: expected one of {', '.join(known)}.")


def _known_stage(case: Case, policy: Policy) -> Judgement | None:
    if case.command.update.stage is None:
        return None
    if case.order.category not in case.lives_by(policy).sla.staged or case.order.work != "fix":
        return refused("unknown_stage", "stage: this work has no stages; resolve it when it is done.")
    if case.command.update.stage not in STAGES:
        return refused("unknown_stage", f"stage: expected one of {', '.join(STAGES)}.")
    return None


def _known_department(case: Case, policy: Policy) -> Judgement | None:
    there = case.command.update.to_department
    if there is None or policy.department(there):
        return None
    codes = ", ".join(sorted(one.code for one in policy.departments))
    return refused("unknown_department", f"to_department: expected one of {codes}.")


def _version_holds(case: Case, _: Policy) -> Judgement | None:
    wanted = case.command.update.if_version
    if wanted is None or wanted == case.told:
        return None
    return refused(
        "version_conflict", f"if_version is {wanted}, the order is at version {case.told}: look at it first."
    )


def _somebody_is_left(case: Case, policy: Policy) -> Judgement | None:
    if case.command.update.verb != "reject" or case.order.department != case.lives_by(policy).triage_queue:
        return None
    return refused("nobody_after_the_triage_queue", "Route it to a department instead of rejecting it.")


def _is_the_last_of_its_site(case: Case, policy: Policy) -> Judgement | None:
    if case.command.update.verb != "reopen" or case.successor is None:
        return None
    return work_goes_on(case, policy)


def work_goes_on(case: Case, policy: Policy) -> Judgement:
    """A no to whoever would open an order whose site has another; which one, is told to those whose it is."""
    there = case.successor
    if there is None or (case.command.department != there.department and not case.is_centre(policy)):
        return refused("work_goes_on", "It was closed for good: whatever is asked for now is another order.")
    return refused("work_goes_on", f"The work at this site goes on in {there.reference}.")


def _not_too_much(case: Case, _: Policy) -> Judgement | None:
    """Each update is folded with all others; a system that repeats itself for ever must not fill the disk."""
    if len(case.entries) < MOST_ENTRIES or case.command.update.verb in ENDS_WELL:
        return None
    return refused("too_much_said", f"{MOST_ENTRIES} updates of this order count already: resolve it.")


def _has_not_ended(case: Case, _: Policy) -> Judgement | None:
    """Work that began before the order ended keeps it alive, however late we hear of it."""
    order, verb = case.order, case.command.update.verb
    if order.state not in _ENDED or verb in ("note", "photo", "cancel"):
        return None
    if order.cancelled_at is not None and case.entry.at < order.cancelled_at:
        return None
    return refused("order_cancelled", f"The order is cancelled: {verb} comes too late.")


_ENDED: Final[tuple[OrderState, ...]] = ("cancelled", "void")


def _knows_its_original(case: Case, _: Policy) -> Judgement | None:
    name = case.command.update.duplicate_of
    if name is None:
        return None
    original = case.original
    if original is None or original.department != case.order.department:
        return refused("unknown_original", f"duplicate_of: no order of yours has the reference {name}.")
    if original.state in _ENDED:
        return refused(
            "unknown_original", f"duplicate_of: {name} is cancelled, so nobody does the work there."
        )
    if original.resolved_at is not None and original.resolved_at < case.order.opened_at:
        return refused("unknown_original", f"duplicate_of: {name} was done before this was asked for.")
    if original.duplicate_of:
        return refused("unknown_original", f"duplicate_of: {name} is itself one of {original.duplicate_of}.")
    return None


_CHECKS: Final[tuple[Callable[[Case, Policy], Judgement | None], ...]] = (
    _owner_or_centre, _may_say, _fits, _not_from_the_future, _known_reason, _known_stage,
    _known_department,
    _version_holds, _somebody_is_left, _is_the_last_of_its_site, _not_too_much, _has_not_ended,
    _knows_its_original,
)  # fmt: skip
"""In the order in which they are asked: who may, before what is said of the order."""
