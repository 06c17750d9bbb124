"""Who asks, and what that lets them do: the one shape that API keys and OIDC tokens both end in."""

from typing import Final, Literal, NamedTuple

Role = Literal["intake", "department", "supervisor", "admin", "auditor"]
ROLES: Final[tuple[Role, ...]] = ("intake", "department", "supervisor", "admin", "auditor")


class Principal(NamedTuple):
    """Somebody who was authenticated. `department`: its code, for the role `department` alone."""

    name: str  # what the audit trail calls them: "key:<key id>" or "oidc:<subject>"
    roles: frozenset[Role]
    department: str | None = None

    def may(self, *roles: Role) -> bool:
        """Whether they have one of these roles."""
        return not self.roles.isdisjoint(roles)
