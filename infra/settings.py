"""Every setting of the product, once: environment variables with the prefix RAPID_, or a `.env` file.

`python -m infra.settings` prints the table that `docs/settings.md` holds.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.kafka.security import PLAINTEXT, Mechanism, Protocol, Security

PREFIX: Final = "RAPID_"
UNSET: Final = "unset"


class Settings(BaseSettings):
    """The settings of one process, read once at its start and handed down; nothing else reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Field(
        Path(".rapid"), description="Folder of the embedded installation: its database, state and logs."
    )
    brokers: str = Field(
        "", max_length=2000, pattern=r"^\s*([^\s,:]+:\d{1,5}\s*(,\s*|$))*$",
        description="Kafka brokers, `host:port` with commas between; empty: the embedded broker that runs in home.",
    )  # fmt: skip
    kafka_security_protocol: Protocol = Field(
        "PLAINTEXT",
        description="How to talk to RAPID_BROKERS: with TLS (SSL), with a login (SASL), with both, or with neither. "
        "The embedded broker knows neither.",
    )
    kafka_sasl_mechanism: Mechanism = Field("SCRAM-SHA-512", description="How the login is proved.")
    kafka_sasl_username: str = Field("", max_length=200, description="Name of the login, with SASL.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Password of the login, with SASL.")
    kafka_ca_file: FilePath | None = Field(
        None,
        description="Certificates, as PEM, of who may have signed the brokers' own, with TLS; "
        "unset: whom the system trusts.",
    )
    database_url: str = Field(
        "", max_length=2000, repr=False,
        description="PostgreSQL, `postgresql://…`; empty: the embedded database that runs in home.",
    )  # fmt: skip
    embedded: bool = Field(
        False,
        description="The broker keeps nothing on disk: what is published stays in the outbox until it is consumed. "
        "Set by `rapid up`.",
    )
    broker_port: int = Field(
        0, ge=0, le=65535, description="Port of the embedded broker on 127.0.0.1; 0 takes any free one."
    )
    policy: Path | None = Field(
        None, description="Folder of the policy; unset: the one that comes with the product."
    )

    workers: int = Field(2, ge=1, le=64, description="Worker processes that `rapid up` runs.")
    partitions: int = Field(
        2, ge=1, le=1000,
        description="Partitions of each topic that is created: as many as workers; more only make batches smaller.",
    )  # fmt: skip
    replication: int = Field(1, ge=1, le=9, description="Copies of each topic that is created.")

    session_timeout_s: float = Field(
        10,
        ge=1,
        le=300,
        description="Seconds after which a silent worker's partitions go to others (embedded: 6).",
    )
    heartbeat_s: float = Field(
        3,
        ge=0.1,
        le=100,
        description="Seconds between a worker's heartbeats; at most a third of the session (embedded: 1).",
    )
    rebalance_timeout_s: float = Field(
        60, ge=1, le=3600, description="Seconds a rebalance waits for a worker in a batch; more than the longest batch "
        "(embedded: 6, because there a join waits half of it).",
    )  # fmt: skip
    request_timeout_s: float = Field(
        90, ge=1, le=600, description="Seconds to wait for a broker's answer; at least the session timeout."
    )
    commit_interval_s: float = Field(
        0.5, ge=0.05, le=60, description="Seconds between commits of consumed offsets."
    )
    batch_records: int = Field(
        1000, ge=1, le=50_000, description="Most records of one partition in one batch and one transaction."
    )
    drain_timeout_s: float = Field(
        20,
        ge=1,
        le=600,
        description="Seconds that a worker has to finish its batches before it is killed (embedded: 5).",
    )
    start_timeout_s: float = Field(
        60,
        ge=5,
        le=900,
        description="Seconds that the system has to become ready before `rapid up --detach` gives up.",
    )
    database_connections: int = Field(
        8, ge=2, le=100, description="Most PostgreSQL connections of one process."
    )

    dead_letter_days: int = Field(
        90, ge=1, le=3650,
        description="Days that a dead letter is kept after it was retried or discarded; open ones are kept.",
    )  # fmt: skip

    http_host: str = Field(
        "127.0.0.1",
        max_length=255,
        description="Address that the API listens on; 0.0.0.0 for other machines.",
    )
    http_port: int = Field(
        0, ge=0, le=65535, description="Port of the API; 0: any free one with `rapid up`, else 8311."
    )
    http_proxies: str = Field(
        "", max_length=2000,
        description="Addresses of proxies before the API, with commas between: their X-Forwarded-For is believed.",
    )  # fmt: skip
    http_body_bytes: int = Field(
        1_000_000, ge=10_000, le=10_000_000, description="Size of a request's body that the API still takes."
    )
    http_rate_per_s: float = Field(
        50, ge=0.1, le=100_000, description="Requests a second of one caller; twice as many at once."
    )
    http_address_rate_per_s: float = Field(
        200, ge=0.1, le=100_000, description="The same of one address, before it is known who calls."
    )
    http_streams: int = Field(
        1_000, ge=1, le=100_000, description="Streams of changes that are open at once in one API process."
    )
    key_memory_s: float = Field(
        5, ge=0, le=60,
        description="Seconds for which a checked API key is held to be good: a revocation takes effect within.",
    )  # fmt: skip
    oidc_issuer: str = Field(
        "", max_length=500, pattern=r"^(|https://\S+|http://(localhost|127\.0\.0\.1)(:\d{1,5})?(/\S*)?)$",
        description="The OpenID Connect provider whose bearer tokens are accepted, exactly as they name it in `iss`; "
        "https, but for one on this machine; empty: API keys only.",
    )  # fmt: skip
    oidc_audience: str = Field(
        "", max_length=500, description="What tokens must name in `aud`; needed with RAPID_OIDC_ISSUER."
    )
    oidc_roles_claim: str = Field(
        "roles", min_length=1, max_length=200, description="The claim of a token that holds the roles."
    )
    oidc_leeway_s: float = Field(
        60, ge=0, le=300, description="Seconds by which the provider's clock and ours may differ."
    )
    oidc_keys_s: float = Field(
        600, ge=10, le=86_400,
        description="Seconds after which the provider's keys are fetched again; an unknown one is looked up at once.",
    )  # fmt: skip

    open311_jurisdiction: str = Field(
        "", max_length=200, description="The `jurisdiction_id` of our Open311 endpoint; empty: it takes any."
    )
    open311_url: str = Field(
        "", max_length=500, pattern=r"^(|https?://\S+)$",
        description="The public address of our Open311 endpoint, for its discovery document; empty: as it was asked.",
    )  # fmt: skip
    open311_settle_s: float = Field(
        900, ge=1, le=86_400,
        description="Seconds that a request may take to show up among those of a city's endpoint, before it is filed "
        "again; an order that was reopened is filed anew after a tenth of it.",
    )  # fmt: skip
    open311_contact: str = Field(
        "", max_length=500, description="Whom to ask about our Open311 endpoint, for its discovery document."
    )

    webhook_allow: str = Field(
        "", max_length=2000, pattern=r"^[0-9A-Fa-f:./,\s]*$",
        description="Networks that webhooks may reach although they are not public, `10.1.0.0/16, fd12::/48`.",
    )  # fmt: skip
    webhook_http: bool = Field(
        False, description="Webhooks may go to http:// too, where anybody on the way can read them."
    )
    webhook_ports: str = Field(
        "443, 8443", max_length=500, pattern=r"^\s*(any|\d{1,5}(-\d{1,5})?(\s*,\s*\d{1,5}(-\d{1,5})?)*)\s*$",
        description="Ports that webhooks may go to, with ranges: `443, 8000-8999`; or `any`.",
    )  # fmt: skip
    webhook_ca_file: Path | None = Field(
        None, description="Certificate authorities (PEM) that webhooks trust beside the usual ones."
    )
    webhook_connect_timeout_s: float = Field(
        5, ge=0.1, le=60, description="Seconds to connect to a webhook's receiver."
    )
    webhook_timeout_s: float = Field(
        15, ge=0.1, le=120, description="Seconds for one attempt, from looking up the name to the answer."
    )
    webhook_first_retry_s: float = Field(
        5,
        ge=0.01,
        le=3600,
        description="Longest wait after a webhook's first failure; doubles with each more.",
    )
    webhook_longest_retry_s: float = Field(
        3600, ge=0.01, le=86_400, description="Longest wait between two attempts before the circuit is open."
    )
    webhook_breaker_failures: int = Field(
        10,
        ge=1,
        le=1000,
        description="Failures in a row that open the circuit: from then on only probes are sent.",
    )
    webhook_probe_s: float = Field(
        1800, ge=0.01, le=86_400, description="Seconds between two probes while the circuit is open."
    )
    webhook_retry_after_s: float = Field(
        86_400, ge=0, le=604_800, description="Longest wait that a receiver may ask for with Retry-After."
    )
    webhook_disable_days: float = Field(
        5,
        ge=0,
        le=60,
        description="Days of nothing but failures after which an endpoint is disabled, with an alert.",
    )
    webhook_log_days: float = Field(
        30, ge=0.01, le=3650, description="Days that the log of webhook deliveries is kept."
    )
    courier_endpoints: int = Field(
        16, ge=1, le=500, description="Webhook endpoints that one courier serves at the same time."
    )
    courier_grace_s: float = Field(
        10, ge=0.5, le=600,
        description="Seconds beyond an attempt's timeout after which another courier takes over from one that died.",
    )  # fmt: skip

    watch_port: int = Field(
        0, ge=0, le=65535,
        description="Port on which a process says whether it is well: /livez, /readyz, /metrics. 0: none, and with "
        "`rapid up` any free one for each process; else its processes get the ports from this one on.",
    )  # fmt: skip
    watch_host: str = Field(
        "127.0.0.1", max_length=255, description="Address of that port; 0.0.0.0 for other machines."
    )
    watch_stuck_s: float = Field(
        15, ge=0.5, le=3600,
        description="Seconds without an answer of database or broker, or at one and the same batch, after which a "
        "process says that it is not ready.",
    )  # fmt: skip
    least_disk_bytes: int = Field(
        1_000_000_000, ge=0, le=10**15,
        description="Free bytes in home below which `rapid doctor` says that the disk is full; a warning at twice as "
        "many.",
    )  # fmt: skip

    alert_link: str = Field(
        "", max_length=500, pattern=r"^(|https?://\S+)$",
        description="Where messages about alerts link to, `https://rapid.example.gov/v1/alerts/{alert}`; `{alert}` and "
        "`{order}` stand for the ids; empty: messages have no link.",
    )  # fmt: skip
    notify_gather_s: float = Field(
        20, ge=0, le=3600,
        description="Seconds for which messages to the same person gather before they are sent.",
    )  # fmt: skip
    notify_few: int = Field(
        3, ge=1, le=1000, description="More messages than this that have gathered are sent as one."
    )
    notify_timeout_s: float = Field(
        15, ge=0.1, le=120, description="Seconds to wait for a mail server's or service's answer."
    )
    notify_first_retry_s: float = Field(
        5,
        ge=0.01,
        le=3600,
        description="Longest wait after a channel's first failure; doubles with each more.",
    )
    notify_longest_retry_s: float = Field(
        900, ge=0.01, le=86_400, description="Longest wait between two attempts over a channel."
    )
    notify_dead_failures: int = Field(
        5, ge=1, le=1000,
        description="Failures in a row after which a channel is held to be dead, of which others are told.",
    )  # fmt: skip
    notify_give_up_h: float = Field(
        6, ge=0, le=720, description="Hours after which a message that cannot be delivered is given up."
    )
    notify_log_days: float = Field(
        30, ge=0.01, le=3650, description="Days that the log of attempts to notify is kept."
    )

    portal: bool = Field(
        False,
        description="`rapid up` follows the city's portal too: `rapid ingest portal`, as one more process.",
    )
    portal_url: str = Field(
        "https://data.cityofchicago.org", max_length=500,
        pattern=r"^(https://\S+|http://(localhost|127\.0\.0\.1)(:\d{1,5})?(/\S*)?)$",
        description="The city's open data portal (SODA 2.1), without `/resource`.",
    )  # fmt: skip
    portal_app_token: SecretStr | None = Field(
        None, description="App token of the portal: more requests are let through with one."
    )
    portal_every: str = Field(
        "", max_length=500,
        pattern=r"^\s*((victims|shotspotter|crimes|requests)\s*=\s*(off|[1-9]\d{0,2}[smhd])\s*(,\s*|$))*$",
        description="How often which dataset of the portal is looked at, `requests=15m, crimes=off`; those that are "
        "not named have their own pace: docs/portal.md.",
    )  # fmt: skip
    portal_since: str = Field(
        "", pattern=r"^(|\d{4}-\d{2}-\d{2})$",
        description="Where the first load of a dataset begins: with what the portal changed from this day on; "
        "empty: with everything that it has, which is 20 million rows in Chicago.",
    )  # fmt: skip
    portal_page_rows: int = Field(
        5000, ge=1, le=50_000,
        description="Rows in one answer of the portal, which are accepted in one transaction.",
    )  # fmt: skip
    portal_timeout_s: float = Field(
        60, ge=0.1, le=600, description="Seconds that the portal has for one whole answer."
    )
    portal_tries: int = Field(
        5, ge=1, le=100, description="Tries of one request before a dataset is left for later."
    )
    portal_first_retry_s: float = Field(
        2,
        ge=0.01,
        le=600,
        description="Longest wait after a request's first failure; doubles with each more.",
    )
    portal_longest_wait_s: float = Field(
        300, ge=0.01, le=86_400,
        description="Longest wait between two tries, and the longest that the portal may ask for with Retry-After "
        "before the dataset is left for later.",
    )  # fmt: skip

    sources: Path | None = Field(
        None,
        description="Folder with mapping files of other sources: docs/sources.md; unset: there are none. With it, "
        "`rapid up` takes in the files that are dropped for them, as one more process.",
    )
    drop: Path | None = Field(
        None,
        description="Folder in which each of these sources has one for its files; unset: `drop` in home.",
    )
    drop_settle_s: float = Field(
        2, ge=0, le=3600,
        description="Seconds for which a dropped file has to look the same before it is taken: somebody may still "
        "write it.",
    )  # fmt: skip

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least severe log line that is written."
    )
    log_format: Literal["json", "console", "auto"] = Field(
        "auto", description="json for machines, console for people, auto: console on a terminal, else json."
    )
    log_file_bytes: int = Field(
        10_000_000, ge=10_000, le=10_000_000_000,
        description="Size at which a log file in home is set aside as `.1`; one older file is kept.",
    )  # fmt: skip
    debug: bool = Field(False, description="Show the traceback of an unexpected error instead of a hint.")

    @field_validator("sources", "drop", mode="before")
    @classmethod
    def _nothing_is_no_folder(cls, value: Any) -> Any:
        """`RAPID_SOURCES=` in a compose file means that there is none, not the working folder."""
        return value or None

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Self:
        """A heartbeat that is too slow, or an answer given up too early, would look like a dead worker."""
        if self.heartbeat_s * 3 > self.session_timeout_s:
            raise ValueError("RAPID_HEARTBEAT_S must be at most a third of RAPID_SESSION_TIMEOUT_S")
        if self.request_timeout_s < self.session_timeout_s:
            raise ValueError("RAPID_REQUEST_TIMEOUT_S must be at least RAPID_SESSION_TIMEOUT_S")
        return self

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        """Half a login, or certificates that are none, would only show as a broker that does not answer."""
        login = Security(self.kafka_security_protocol, ca_file=self.kafka_ca_file)
        if login.sasl and not (self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError(
                f"RAPID_KAFKA_SECURITY_PROTOCOL={login.protocol} needs RAPID_KAFKA_SASL_USERNAME and "
                "RAPID_KAFKA_SASL_PASSWORD"
            )
        try:
            login.context()
        except OSError as error:
            raise ValueError("RAPID_KAFKA_CA_FILE must hold certificates in PEM form") from error
        return self

    @property
    def security(self) -> Security:
        """How to log in at the brokers."""
        if self.embedded:
            return PLAINTEXT
        password = self.kafka_sasl_password
        return Security(
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            password.get_secret_value() if password else "",
            self.kafka_ca_file,
        )

    @model_validator(mode="after")
    def _tokens_have_an_audience(self) -> Self:
        """A token made for another application of the same provider must not open this one."""
        if self.oidc_issuer and not self.oidc_audience:
            raise ValueError("RAPID_OIDC_ISSUER needs RAPID_OIDC_AUDIENCE: whom the tokens must be made for")
        return self

    @model_validator(mode="after")
    def _networks_are_networks(self) -> Self:
        for part in filter(None, map(str.strip, self.webhook_allow.split(","))):
            try:
                ip_network(part)
            except ValueError:
                raise ValueError("RAPID_WEBHOOK_ALLOW holds networks like 10.1.0.0/16, fd12::/48") from None
        return self

    @property
    def broker_list(self) -> tuple[str, ...]:
        """The brokers as `host:port`, empty when none is configured."""
        return tuple(part.strip() for part in self.brokers.split(",") if part.strip())

    @property
    def home_folder(self) -> Path:
        """`home` as an absolute path."""
        return self.home.expanduser().resolve()


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make a child process read these same settings."""
    secrets = {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    return {
        PREFIX + name.upper(): str(value)
        for name, value in (settings.model_dump(mode="json") | secrets).items()
        if value is not None
    }


def reference() -> str:
    """`docs/settings.md`: every setting as a row of a Markdown table."""
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "\n".join([_HEADING, *rows]) + "\n"


_HEADING: Final = """# Settings

Environment variables, or lines of a `.env` file in the working folder. Written by `python -m infra.settings`; the
descriptions and bounds live in `infra/settings.py`.

| variable | default | bounds | what it is |
|---|---|---|---|"""


def _row(name: str, field: FieldInfo) -> str:
    return (
        f"| `{PREFIX}{name.upper()}` | {_default(field.default)} | {_bounds(field)} | {field.description} |"
    )


def _default(value: Any) -> str:
    return UNSET if value in (None, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounds(field: FieldInfo) -> str:
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(choices)
    limits = {
        key: getattr(item, key) for item in field.metadata for key in ("ge", "le") if hasattr(item, key)
    }
    return f"{limits['ge']} to {limits['le']}" if {"ge", "le"} <= limits.keys() else ""


if __name__ == "__main__":
    print(reference(), end="")
