"""What a city's endpoint says enters like every other update: by the department's own topic, through the outbox."""

from connectors.http.updates import event_of
from connectors.open311.follower import Tell
from connectors.postgres.audit import Entry
from connectors.postgres.submissions import Answer, Submission, Submissions, SubmittedUpdate, digest_of
from schemas.codec import encode
from schemas.work_order_update import WorkOrderUpdate

ACTOR = "open311"


def say_durably(submissions: Submissions) -> Tell:
    """Says it in one transaction with the audit trail. The same update twice is one."""

    async def tell(department: str, update: WorkOrderUpdate) -> None:
        details = {"update_id": update.update_id, "verb": update.verb, "department": department}
        submission = Submission(
            principal=f"{ACTOR}:{department}", key=update.update_id, digest=digest_of(encode(update)),
            events=[event_of(department, update)], answer=Answer(202, {}, ""),
            entries=[Entry(f"{ACTOR}:{department}", "open311.update", update.reference, "done", details)],
            updates=[SubmittedUpdate(department, update.update_id, update.reference)],
        )  # fmt: skip
        await submissions.submit(submission)

    return tell
