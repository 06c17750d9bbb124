"""Whether a layer may give a tier: the policy must know it, and must plan for it. Pure."""

from schemas.policy import Policy


def tier_problem(tier: str, policy: Policy) -> str | None:
    """Why places cannot be given this tier, in words; None: they can.

    A tier without plans would not raise an incident but leave it without any response.
    """
    if tier not in policy.severity.tier:
        return f"the policy knows the tiers {', '.join(sorted(policy.severity.tier))}"
    planned = {kind for plan in policy.plans for kind in plan.kinds if policy.default_tier in plan.tiers}
    lacking = sorted(kind.replace("_", " ") for kind in planned if policy.plan_for(kind, tier) is None)
    if lacking:
        return (
            f"the policy has no plan for {', '.join(lacking)} in the tier {tier}, and would do nothing there"
        )
    return None
