"""Which roles somebody was given, and which go together."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from connectors.access.principal import ROLES, Role

DEPARTMENT_PREFIX: Final = "department:"
_BESIDE_DEPARTMENT: Final[frozenset[Role]] = frozenset({"department", "intake"})
_PLAIN: Final[dict[str, Role]] = {role: role for role in ROLES if role != "department"}


class Granted(NamedTuple):
    """Roles, and the department of the role `department`."""

    roles: frozenset[Role]
    department: str | None = None


class Misfit(ValueError):
    """These roles cannot be given together; the message is one sentence."""


def granted(roles: Iterable[Role], department: str | None) -> Granted:
    """Roles that go together. Raises Misfit.

    A department must never read of incidents, so what it holds in its hands cannot be a supervisor's too.
    """
    given = frozenset(roles)
    if not given:
        raise Misfit(f"At least one role is needed, of {', '.join(ROLES)}.")
    if ("department" in given) != (department is not None):
        raise Misfit(
            "The role department and the code of a department belong together: give both or neither."
        )
    if department is not None and not given <= _BESIDE_DEPARTMENT:
        others = ", ".join(sorted(given - _BESIDE_DEPARTMENT))
        raise Misfit(
            f"A department cannot be {others} as well, for it would read of incidents: use two identities."
        )
    return Granted(given, department)


def of_claim(claim: Any) -> Granted:
    """The roles of a token's claim: a list of texts, or one text with spaces between. Raises Misfit.

    Values that are none of ours are left out: providers list their other applications' roles there too.
    """
    names = claim.split() if isinstance(claim, str) else claim
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Misfit("The claim with the roles must be a list of texts, or a text with spaces between them.")
    departments = {
        name.removeprefix(DEPARTMENT_PREFIX) for name in names if name.startswith(DEPARTMENT_PREFIX)
    }
    if len(departments) > 1:
        raise Misfit("A token can speak for one department only: use one token for each.")
    roles: set[Role] = {_PLAIN[name] for name in names if name in _PLAIN}
    if departments:
        roles.add("department")
    return granted(roles, departments.pop() if departments else None)
