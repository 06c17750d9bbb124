"""What checks who sends a request, made from the settings."""

from collections.abc import Callable
from datetime import timedelta

from connectors.access.authenticate import Authenticator
from connectors.access.issuer import Issuer
from connectors.access.keys import ApiKeys
from connectors.access.tokens import OidcTokens, TokenRules
from connectors.postgres.pool import Pool
from infra.settings import Settings


def authenticator(settings: Settings, pool: Pool, knows_department: Callable[[str], bool]) -> Authenticator:
    """API keys of this database, and the tokens of the provider that the settings name, if they name one.

    `knows_department`: whether the policy has a department with this code.
    """
    memory = timedelta(seconds=settings.key_memory_s)
    return Authenticator(ApiKeys(pool, knows_department, memory=memory), _tokens(settings, knows_department))


def _tokens(settings: Settings, knows_department: Callable[[str], bool]) -> OidcTokens | None:
    if not settings.oidc_issuer:
        return None
    issuer = Issuer(settings.oidc_issuer, lifetime=timedelta(seconds=settings.oidc_keys_s))
    rules = TokenRules(settings.oidc_audience, settings.oidc_roles_claim, settings.oidc_leeway_s)
    return OidcTokens(issuer, rules, knows_department)
