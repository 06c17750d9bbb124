"""Where a webhook may go."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from connectors.webhooks.guard import (
    Borders,
    Refused,
    addresses,
    check_url,
    parse_networks,
    parse_ports,
    refusal,
    resolve_by_system,
)

ANYWHERE = Borders(plain_http=True, ports=parse_ports("any"))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192", "192.0.2.1", "192.168.1.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
        "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1",
        "4000::1", "1::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused(address: str) -> None:
    assert refusal(ip_address(address), ())


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_what_is_public_is_allowed(address: str) -> None:
    assert refusal(ip_address(address), ()) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1"])
def test_ranges_can_be_allowed(address: str) -> None:
    allow = parse_networks("10.1.0.0/16, fd12::/48")
    assert refusal(ip_address(address), allow) is None
    assert refusal(ip_address("10.2.0.1"), allow)
    assert refusal(ip_address("127.0.0.1"), allow)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "168.63.129.16"]
)
def test_metadata_services_are_refused_even_in_an_allowed_range(address: str) -> None:
    assert refusal(ip_address(address), parse_networks("0.0.0.0/0, ::/0")) == "a cloud's metadata service"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https://", "https:///hook", "example.org",
        "", "https://me:secret@example.org/", "https://me@example.org/", "https://example.org/#part",
        "https://example.org:22/", "https://example.org:0/", "https://example.org:99999/", "https://exa mple.org/",
        "https://example.org/\r\nHost: x", "https://example.org/\x00", "https://[::1",
        "https://example.org/" + "a" * 1000,
    ],
)  # fmt: skip
def test_urls_that_are_refused_by_their_form(url: str) -> None:
    with pytest.raises(Refused) as refused:
        check_url(url, Borders())
    assert "secret" not in str(refused.value)


def test_a_url_is_taken_apart() -> None:
    assert check_url("https://example.org/a?b=c", Borders())[1:] == ("example.org", 443)
    assert check_url("https://[2606:4700::1111]:8443/", Borders())[1:] == ("2606:4700::1111", 8443)
    assert check_url("https://bücher.example/", Borders()).host == "xn--bcher-kva.example"
    assert check_url("http://example.org/", ANYWHERE)[1:] == ("example.org", 80)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)  # fmt: skip
async def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises((Refused, OSError)):  # OSError: this system does not know the spelling
        await addresses(check_url(f"https://{host}/", Borders()), Borders(), resolve_by_system)


async def _resolve_to(found: Sequence[str]) -> list[str]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return found

    return [
        str(one) for one in await addresses(check_url("https://x.example/", Borders()), Borders(), resolve)
    ]


async def test_one_refused_address_refuses_all() -> None:
    assert await _resolve_to(["8.8.8.8", "2606:4700::1111", "8.8.8.8"]) == ["8.8.8.8", "2606:4700::1111"]
    with pytest.raises(Refused, match=r"x\.example resolves to 10\.0\.0\.1, which is private"):
        await _resolve_to(["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Refused, match="link-local"):
        await _resolve_to(["fe80::1%eth0"])


async def test_a_name_without_address_is_not_found() -> None:
    with pytest.raises(OSError, match="no address"):
        await _resolve_to([])


def test_ports_with_ranges() -> None:
    assert parse_ports("443, 8000-8999") == ((443, 443), (8000, 8999))
    for wrong in ("0", "70000", "20-10", "a", ""):
        with pytest.raises(ValueError, match=r"ports|invalid"):
            parse_ports(wrong)
