"""What follows from an attempt to reach somebody: pure. Time and chance are arguments, and every step names its rule.

A channel gets one message at a time. A failure delays the channel, by exponential backoff with full jitter; after some
failures in a row it is dead, of which people are told once. A message is given up when it has waited too long, or at
once when the receiver refuses this very message.
"""

from typing import Literal, NamedTuple

from connectors.webhooks.schedule import backoff_s

Ending = Literal["delivered", "refused", "failed", "unknown", "misconfigured"]
"""`refused`: this message, for good. `failed`: it has not arrived. `unknown`: nobody knows whether it has.
`misconfigured`: the channel cannot be used as the policy says it."""
Rule = Literal["delivered", "retry", "refused", "gave_up"]


class Limits(NamedTuple):
    """The policy of retries; `infra/settings.py` has a sentence for each."""

    first_retry_s: float = 5.0
    longest_retry_s: float = 900.0
    give_up_s: float = 6 * 3600.0
    dead_failures: int = 5


class Answer(NamedTuple):
    """How an attempt ended. `sentence` says it to a person, and repeats nothing that the receiver sent."""

    ending: Ending
    sentence: str
    duration_ms: int = 0


class Step(NamedTuple):
    """What follows: after how many seconds the channel goes on; why the message is given up; why the channel is held
    to be dead."""

    rule: Rule
    wait_s: float
    undeliverable: str | None = None
    dead: str | None = None


def step(answer: Answer, failures: int, age_s: float, chance: float, limits: Limits) -> Step:
    """What follows from an answer. `failures`: of the channel in a row, before this one; `age_s`: since the message was
    to be sent; `chance` is in [0, 1)."""
    if answer.ending == "delivered":
        return Step("delivered", 0.0)
    failures += 1
    wait_s = backoff_s(failures, chance, limits.first_retry_s, limits.longest_retry_s)
    dead = _dead(answer, failures, limits)
    if answer.ending == "refused":
        return Step("refused", wait_s, answer.sentence, dead)
    if age_s >= limits.give_up_s:
        why = f"It could not be delivered for {age_s / 3600:.1f} hours; the last time: {answer.sentence}"
        return Step("gave_up", 0.0, why, dead)  # what waits behind it may be as old
    return Step("retry", wait_s, None, dead)


def _dead(answer: Answer, failures: int, limits: Limits) -> str | None:
    if answer.ending == "misconfigured":
        return answer.sentence
    if failures < limits.dead_failures:
        return None
    return f"{failures} attempts in a row have failed; the last time: {answer.sentence}"
