"""Who may do what at the broker, as values."""

from dataclasses import replace

import pytest

from connectors.kafka.acls import AclRule, Principals, as_commands, foreign, rules_of
from connectors.kafka.security import PLAINTEXT, Security
from infra.cli.errors import ExitCode, Oops
from infra.cli.topics import _principals
from schemas.topics import INCIDENT_REPORTS, INCIDENTS, all_topics, department_topics, updates_topic

NOBODY = Principals((), (), {})


def topic_rule(principal: str, name: str, operation: str) -> AclRule:
    return AclRule(principal, "topic", name, "literal", operation)


def test_a_department_gets_its_three_topics_and_groups_of_its_name() -> None:
    principals = replace(NOBODY, departments={"cdot": ("User:c",)})
    assert rules_of(all_topics(["cdot", "dss"]), principals) == (
        AclRule("User:c", "group", "cdot.", "prefixed", "READ"),
        topic_rule("User:c", "work-order-update-results.cdot", "DESCRIBE"),
        topic_rule("User:c", "work-order-update-results.cdot", "READ"),
        topic_rule("User:c", "work-order-updates.cdot", "DESCRIBE"),
        topic_rule("User:c", "work-order-updates.cdot", "WRITE"),
        topic_rule("User:c", "work-orders.cdot", "DESCRIBE"),
        topic_rule("User:c", "work-orders.cdot", "READ"),
    )


def test_a_reporter_writes_the_public_topics() -> None:
    assert rules_of(all_topics(["cdot"]), replace(NOBODY, sources=("User:cad",))) == tuple(
        topic_rule("User:cad", name, operation)
        for name in ("incident-reports", "issue-reports")
        for operation in ("DESCRIBE", "WRITE")
    )


def test_our_processes_do_what_the_topics_say_of_agents_api_and_sources() -> None:
    rules = rules_of(
        [INCIDENT_REPORTS, INCIDENTS, *department_topics("cdot")], replace(NOBODY, workers=("User:w",))
    )
    may = {(rule.name, rule.operation) for rule in rules if rule.operation != "DESCRIBE"}
    assert may == {
        ("rapid", "READ"),
        ("incident-reports", "READ"),
        ("incident-reports", "WRITE"),
        ("incidents", "READ"),
        ("incidents", "WRITE"),
        ("work-orders.cdot", "WRITE"),
        ("work-order-updates.cdot", "READ"),
        ("work-order-updates.cdot", "WRITE"),
        ("work-order-update-results.cdot", "WRITE"),
    }


def test_a_second_principal_of_a_department_may_the_same() -> None:
    principals = replace(NOBODY, departments={"cdot": ("User:a", "User:b")})
    rules = rules_of([updates_topic("cdot")], principals)
    one, other = ({rule for rule in rules if rule.principal == name} for name in ("User:a", "User:b"))
    assert {replace(rule, principal="User:b") for rule in one} == other != set()


@pytest.mark.parametrize("party", ["sources", "department cdot"])
@pytest.mark.parametrize("access", ["internal", "restricted"])
def test_a_topic_that_is_not_for_outside_is_never_opened(party: str, access: str) -> None:
    slip = replace(INCIDENTS, access=access, readers=(party,))  # type: ignore[arg-type]  # a parameter
    with pytest.raises(ValueError, match=f"incidents is {access}"):
        rules_of([slip], NOBODY)


OURS = (
    topic_rule("User:c", "work-orders.cdot", "READ"),
    AclRule("User:c", "group", "cdot.", "prefixed", "READ"),
)


@pytest.mark.parametrize(
    ("resource", "name", "pattern", "said"),
    [
        ("topic", "work-orders.cdot", "literal", True),
        ("topic", "*", "literal", True),
        ("topic", "work-", "prefixed", True),
        ("topic", "work-orders.cdot-south", "literal", False),
        ("topic", "work-orders.cdot.", "prefixed", False),
        ("topic", "cdot.", "prefixed", False),
        ("group", "cdot.orders", "literal", True),
        ("group", "cdot.o", "prefixed", True),
        ("group", "c", "prefixed", True),
        ("group", "cdot", "literal", False),
        ("cluster", "kafka-cluster", "literal", False),
    ],
)
def test_foreign_is_what_speaks_of_our_topics_and_groups(
    resource: str, name: str, pattern: str, said: bool
) -> None:
    found = AclRule("User:x", resource, name, pattern, "READ", "DENY")
    assert foreign([found, *OURS], OURS) == ((found,) if said else ())


def test_commands_join_what_a_principal_may_with_one_topic() -> None:
    principals = replace(NOBODY, departments={"cdot": ("User:CN=cdot prod,O=city",)})
    lines = as_commands(rules_of([updates_topic("cdot")], principals), "b:9092")
    start = "kafka-acls.sh --bootstrap-server b:9092 --command-config admin.properties --add "
    start += "--allow-principal 'User:CN=cdot prod,O=city' "
    on = "--topic work-order-updates.cdot --resource-pattern-type literal"
    assert lines == [
        f"{start}--operation Read --group cdot. --resource-pattern-type prefixed",
        f"{start}--operation Describe --operation Write {on}",
    ]


@pytest.mark.parametrize(
    ("workers", "named", "said"),
    [
        ("User:rapid", ["nobody=User:x"], "cdot, dss or sources"),
        ("User:rapid", ["cdot"], "is not one principal"),
        ("User:rapid", ["cdot=cdot"], "is not one principal"),
        ("User:*", [], "is not one principal"),
    ],
)
def test_a_principal_that_is_none_is_refused(workers: str, named: list[str], said: str) -> None:
    with pytest.raises(Oops, match=said) as refused:
        _principals(["cdot", "dss"], workers, named)
    assert refused.value.exit_code == ExitCode.INVALID


def test_who_is_not_named_is_called_by_code_and_none_is_nobody() -> None:
    named = ["dss=none", "sources=User:a", "sources=User:CN=b,O=c"]
    assert _principals(["cdot", "dss"], "User:rapid", named) == Principals(
        ("User:rapid",), ("User:a", "User:CN=b,O=c"), {"cdot": ("User:cdot",), "dss": ()}
    )


def test_without_a_login_nothing_of_one_is_sent() -> None:
    assert PLAINTEXT.for_aiokafka() == {"security_protocol": "PLAINTEXT", "ssl_context": None}
    assert PLAINTEXT.for_confluent() == {"security.protocol": "PLAINTEXT"}


def test_a_login_is_the_same_for_every_client_library() -> None:
    login = Security("SASL_PLAINTEXT", "PLAIN", "me", "secret")
    assert login.for_aiokafka() == {
        "security_protocol": "SASL_PLAINTEXT", "ssl_context": None, "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "me", "sasl_plain_password": "secret",
    }  # fmt: skip
    assert login.for_confluent() == {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "me",
        "sasl.password": "secret",
    }  # fmt: skip
    assert "secret" not in repr(login)


def test_tls_checks_the_name_in_the_certificate() -> None:
    context = Security("SSL").context()
    assert context is not None
    assert context.check_hostname
