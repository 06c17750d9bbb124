"""Where a webhook may go. Whoever can name a URL must not reach what only we can reach (server-side request forgery).

A URL is checked when it is added and at every attempt. The host is resolved by us, each address it resolves to is
checked, and the request goes to the very address that was checked: a name that answers differently a second later
(DNS rebinding) gains nothing.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> addresses. Raises OSError when there are none."""

URL_CHARACTERS: Final = 1000
MOST_ADDRESSES: Final = 16
ALL_PORTS: Final = ((1, 65535),)

# What clouds serve credentials from; refused even when a wider range is allowed. Two of them look public or private.
METADATA: Final = frozenset(
    ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
                 "fd00:ec2::254", "fe80::a9fe:a9fe")
)  # fmt: skip
# https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry
REFUSED: Final = tuple(
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("64:ff9b:1::/48", "private"),
        ("100::/64", "discard"),
        ("2001::/23", "reserved"),  # with Teredo
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
PUBLIC_IPV6: Final = ip_network("2000::/3")
NAT64: Final = ip_network("64:ff9b::/96")
MAPPED: Final = ip_network("::ffff:0:0/96")


class Refused(Exception):
    """The URL may not be called; the message is a sentence for who gave it."""


class Borders(NamedTuple):
    """What is allowed beyond public addresses by https."""

    allow: tuple[Network, ...] = ()
    plain_http: bool = False
    ports: tuple[tuple[int, int], ...] = ((443, 443), (8443, 8443))


class Target(NamedTuple):
    """A URL whose form is in order."""

    url: httpx.URL
    host: str  # without brackets, as it is resolved
    port: int


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of `10.1.0.0/16, fd12::/48`. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def parse_ports(text: str) -> tuple[tuple[int, int], ...]:
    """Ranges of `443, 8000-8999`, or `any`. Raises ValueError."""
    if text.strip() == "any":
        return ALL_PORTS
    ranges = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise ValueError("ports lie between 1 and 65535, the lower first")
        ranges.append((low, high))
    return tuple(ranges)


def check_url(text: str, borders: Borders) -> Target:
    """The target of a URL, by its form alone. Raises Refused."""
    if len(text) > URL_CHARACTERS or not text.isprintable() or any(one.isspace() for one in text):
        raise Refused(f"A webhook's URL has at most {URL_CHARACTERS} characters, and no blanks.")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Refused("This is no URL: expected https://host/path.") from None
    if url.scheme != "https" and not (url.scheme == "http" and borders.plain_http):
        raise Refused("A webhook's URL begins with https://; RAPID_WEBHOOK_HTTP=true allows http:// too.")
    if url.userinfo or url.fragment:
        raise Refused(
            "A webhook's URL has no user name, password or #fragment: the signature shows who calls."
        )
    if not url.host:
        raise Refused("A webhook's URL names a host: https://host/path.")
    standard = 443 if url.scheme == "https" else 80
    port = standard if url.port is None else url.port
    if not any(low <= port <= high for low, high in borders.ports):
        raise Refused(f"Port {port} is not allowed for webhooks: RAPID_WEBHOOK_PORTS lists those that are.")
    return Target(url, url.raw_host.decode("ascii").strip("[]"), port)


async def addresses(target: Target, borders: Borders, resolve: Resolve) -> list[Address]:
    """The addresses that the target may be called at. Raises Refused when any is not allowed, OSError when none is
    found. One refused address refuses all: an honest name does not mix them."""
    found = [_parsed(text) for text in await resolve(target.host, target.port)]
    if not found:
        raise OSError("the name has no address")
    for address in found:
        reason = refusal(address, borders.allow)
        if reason:
            raise Refused(
                f"{target.host} resolves to {address}, which is {reason}: not allowed by RAPID_WEBHOOK_ALLOW."
            )
    return list(dict.fromkeys(found))[:MOST_ADDRESSES]


def refusal(address: Address, allow: Sequence[Network]) -> str | None:
    """Why an address may not be called; None: it may. An IPv4 address inside an IPv6 one is looked at as well."""
    inner = _embedded(address)
    if address in METADATA or inner in METADATA:
        return "a cloud's metadata service"
    if any(one in network for one in (address, inner) if one is not None for network in allow):
        return None
    if inner is not None:
        return refusal(inner, ())
    for network, name in REFUSED:
        if address in network:
            return f"{name} ({network})"
    if address.version == 6 and address not in PUBLIC_IPV6:
        return f"outside of the public range {PUBLIC_IPV6}"
    return None


def _parsed(text: str) -> Address:
    return ip_address(text.partition("%")[0])  # a zone (fe80::1%eth0) is of no account: it is link-local


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv4-mapped or NAT64 address stands for."""
    if address in MAPPED or address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


async def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses of a name, as this machine resolves it."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError("the name is not valid") from error
    return [str(entry[4][0]) for entry in found]
