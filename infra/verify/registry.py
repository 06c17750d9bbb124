"""Every check, once, in the order in which they run."""

from typing import Final

from infra.verify import (
    causes,
    feed,
    ledger,
    orders,
    privacy,
    promises,
    responses,
    seen,
    topics,
    trail,
    waiting,
    webhooks,
)
from infra.verify.report import Check

REBUILD: Final = "Look with `rapid explain`; `rapid orders rebuild` puts orders right."
LEDGER: Final = "The ledger is never changed: restore it from a backup, then `rapid orders rebuild`."
TOLD: Final = "Find out who changed the table; the order's next change tells its department the whole again."
DISPATCH: Final = "Find out who changed the tables; `rapid replay-decisions` says which decisions stand."
TOPIC: Final = (
    "Look for outbox rows and workers with `rapid status`; the order's next change is published whole."
)
PROMISED: Final = (
    "Look with `rapid sla explain` and `rapid alerts`; the order's next change computes both anew."
)
ALERTED: Final = (
    "Events of alerts are never changed: find out who changed the tables, and restore them from a backup."
)
LIFE: Final = "Lines are never changed: find out who changed the tables, and restore them from a backup."
PRIVACY: Final = "Stop what sends it, and tell whoever is responsible for the data."

CHECKS: Final = (
    Check("drained", "Everything that was accepted is handled and published.",
          "Wait, see `rapid status`, and run it again.", waiting.drained),
    Check("bodies", "Each order is what its causes and its ledger add up to.", REBUILD, orders.bodies),
    Check("columns", "The columns of work_orders say what the order's body says.", REBUILD, orders.columns),
    Check("department-bodies", "What a department was told last is what it may see of the order as it is.",
          TOLD, orders.department_bodies),
    Check("ledger-lines", "Lines are numbered without holes, fit their columns and digests, and were answered so.",
          LEDGER, ledger.lines),
    Check("ledger-counts", "An order counts the lines that were not refused, and nothing is in a ledger twice.",
          LEDGER, ledger.counts),
    Check("causes", "The causes of orders are those that dispatch decided last.", DISPATCH, causes.causes, "drained"),
    Check("evidence", "The incidents and service requests that orders name are there.", DISPATCH, causes.evidence),
    Check("feed-orders", "The feed told each audience last what the order's row says.", TOLD, feed.last_told),
    Check("feed-versions", "Nobody was told an older version after a newer one, and no version was left out.",
          TOLD, feed.versions),
    Check("feed-answers", "Each answer of the ledger was told once, to its sender.", TOLD, feed.answers),
    Check("feed-news", "311 was told last how each request stands that an order covers.", TOLD, feed.news),
    Check("promises", "What is promised of each order stands as its ledger and its promise lines say.",
          PROMISED, promises.promises),
    Check("promised", "Of every open order something is promised that runs, or an alert says why not.",
          PROMISED, promises.promised),
    Check("rungs", "What an order had reached when it was looked at last is warned of, and nothing else is.",
          PROMISED, promises.rungs),
    Check("timers", "Each order that waits for time to pass has a timer for it, and no other has one.",
          PROMISED, promises.timers),
    Check("alerts", "Events of alerts are numbered without holes, and each alert is as its last event left it.",
          ALERTED, promises.alerts),
    Check("feed-alerts", "The feed told supervisors and departments of each event of an alert once.",
          TOLD, promises.told),
    Check("response-lives", "Lines of a response's life are numbered without holes, and add up to what is held of it.",
          LIFE, responses.lives),
    Check("response-ends", "Each response whose time is up is closed, and each that is open has a timer for its end.",
          "See that `rapid timers` and a worker run.", responses.ends, "drained"),
    Check("response-closings", "Each response was closed with what its orders' ledgers say of that moment.",
          "Look with `rapid responses show`; whatever changes of its orders next has it corrected.",
          responses.closings, "drained"),
    Check("feed-responses", "The feed told supervisors of each event of a response's life once, and nobody else.",
          TOLD, responses.told),
    Check("topic-orders", "The last record of each order on work-orders is the order.",
          TOPIC, topics.orders, "topics"),
    Check("topic-departments", "The last record of each order on work-orders.<department> is what it was told last.",
          TOPIC, topics.departments, "topics"),
    Check("topic-results", "Each answer of the ledger is on work-order-update-results and its department's topic.",
          TOPIC, topics.results, "topics"),
    Check("topic-alerts", "Each event of an alert is on sla-alerts.", TOPIC, promises.published, "topics"),
    Check("topic-responses", "Each event of a response's life is on response-life.", TOPIC, responses.published,
          "topics"),
    Check("parked", "No update waits for an order that is there.",
          "See that a worker runs: it looks every few seconds.", waiting.parked, "drained"),
    Check("audit", "The audit trail's chain is whole.", "See `rapid audit verify`, and compare with a backup.",
          trail.chain),
    Check("webhook-log", "The log of deliveries follows the feed, and nothing was passed over.",
          "Send it again with `rapid webhooks redeliver`.", webhooks.log),
    Check("webhook-lag", "What is told is sent to the endpoints that are in use.",
          "See `rapid webhooks log`, and that `rapid courier` runs.", webhooks.lag),
    Check("seen", "What crews hold is what their departments were told.",
          "Find out what the crew's interface left out.", seen.seen, "seen"),
    Check("privacy", "From nothing that departments and the public read can one tell that something happened.",
          PRIVACY, privacy.privacy),
)  # fmt: skip
