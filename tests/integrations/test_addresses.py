"""Which addresses are called: none that is not public, however it is written, unless the settings name it."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cador.domain.errors import Invalid
from cador.integrations.addresses import METADATA, PRIVATE, Rules, inner, strange

NOBODY = Rules.parse()
PRIVATE_4 = [network for network in (*PRIVATE, *METADATA) if network.version == 4]

addresses_4 = st.ip_addresses(v=4)
private_4 = st.sampled_from(PRIVATE_4).flatmap(lambda network: st.ip_addresses(network=network))


def written_in_6(address: IPv4Address) -> list[IPv6Address]:
    """IPv6 addresses that some host or gateway takes for *address*."""
    number = int(address)
    return [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0xFFFF << 48 | number),
        IPv6Address(int(IPv6Address("64:ff9b::")) | number),
        IPv6Address(int(IPv6Address("2002::")) | number << 80),
        IPv6Address(int(IPv6Address("2606:4700::")) | 0x5EFE << 32 | number),
        IPv6Address(int(IPv6Address("2001::")) | (number ^ 0xFFFFFFFF)),
        IPv6Address(int(IPv6Address("64:ff9b:1::")) | (number >> 16) << 64 | (number & 0xFFFF) << 40),
    ]


@given(private_4)
def test_no_private_address_is_called_however_it_is_written(address: IPv4Address) -> None:
    for one in (address, *written_in_6(address)):
        assert NOBODY.refuses("x.example", one, "user"), one


@given(st.sampled_from([n for n in METADATA if n.version == 4]).flatmap(lambda n: st.ip_addresses(network=n)))
def test_metadata_is_not_for_operators_either(address: IPv4Address) -> None:
    for one in (address, *written_in_6(address)):
        assert NOBODY.refuses("x.example", one, "operator"), one
    rules = Rules.parse([str(address)])
    assert not rules.refuses("x.example", address, "operator")
    assert not rules.refuses("x.example", IPv6Address(0xFFFF << 32 | int(address)), "operator")


@given(st.ip_addresses())
def test_what_python_takes_for_local_is_refused(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast:
        assert NOBODY.refuses("x.example", address, "user")
    if not NOBODY.refuses("x.example", address, "user"):
        assert not NOBODY.refuses("x.example", address, "operator")


@given(st.ip_addresses(), st.ip_addresses())
def test_an_entry_opens_and_closes_what_it_names_alone(
    address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address
) -> None:
    allowed = Rules.parse([str(other)])
    if address == other:
        return
    meant = set(inner(address)) & set(inner(other))
    if not meant:
        assert bool(allowed.refuses("x", address, "user")) == bool(NOBODY.refuses("x", address, "user"))
    assert Rules.parse([str(address)], [str(address)]).refuses("x", address, "operator")


@pytest.mark.parametrize(
    ("address", "chosen_by", "called"),
    [
        ("8.8.8.8", "user", True),
        ("2606:4700:4700::1111", "user", True),
        ("10.1.2.3", "user", False),
        ("10.1.2.3", "operator", True),
        ("127.0.0.1", "operator", True),
        ("::1", "operator", True),
        ("::1", "user", False),
        ("fd12::1", "user", False),
        ("169.254.169.254", "operator", False),
        ("fe80::1", "operator", False),
        ("0.0.0.0", "operator", False),
        ("::", "operator", False),
        ("224.0.0.1", "operator", False),
        ("255.255.255.255", "operator", False),
        ("100.100.100.200", "operator", False),
        ("168.63.129.16", "operator", False),
    ],
)
def test_who_may_call_what(address: str, chosen_by: str, called: bool) -> None:
    assert (NOBODY.refuses("x", ip_address(address), chosen_by) == "") == called  # type: ignore[arg-type]


def test_an_interface_cannot_be_named_past_the_rules() -> None:
    assert NOBODY.refuses("x", ip_address("fe80::1%eth0"), "operator")
    assert NOBODY.refuses("x", ip_address("::ffff:127.0.0.1%lo"), "user")


def test_names_open_what_they_mean_and_refusals_win() -> None:
    rules = Rules.parse(["*.corp.example", "ci", "192.168.7.0/24"], ["evil.corp.example", "192.168.7.9", "8.8.8.8"])
    inside = ip_address("10.0.0.1")
    assert not rules.refuses("git.corp.example.", inside, "user")
    assert not rules.refuses("CI", inside, "user")
    assert rules.refuses("corp.example", inside, "user")
    assert rules.refuses("gitcorp.example", inside, "user")
    assert rules.refuses_name("evil.corp.example")
    assert not rules.refuses("x", ip_address("192.168.7.8"), "user")
    assert rules.refuses("git.corp.example", ip_address("192.168.7.9"), "user")
    assert rules.refuses("x", ip_address("::ffff:8.8.8.8"), "operator")
    assert rules.refuses("ci", ip_address("0.0.0.0"), "user")


@given(st.integers(0, 2**32 - 1))
def test_a_number_is_no_host(number: int) -> None:
    for text in (str(number), hex(number), f"0{number:o}", f"127.{number}", f"0x7f.{number % 256}", f"{number}."):
        assert strange(text), text
    assert not strange(str(IPv4Address(number)))


@pytest.mark.parametrize("host", ["", "a b", "a%00b", "fe80::1%eth0", "a/b", "a@b", "a\\b", "x" * 254])
def test_what_is_no_host(host: str) -> None:
    assert strange(host)


@pytest.mark.parametrize("host", ["example.com", "a-b.c_d", "xn--bcher-kva.example", "::1", "1a.b2c", "localhost"])
def test_what_is_a_host(host: str) -> None:
    assert not strange(host)


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "http://ci", "ci:8080", "*.*.x", "a b", "*", "2130706433", "1.2.3"]
)
def test_entries_that_mean_nothing_are_refused(entry: str) -> None:
    with pytest.raises(Invalid, match=r"outgoing\.deny"):
        Rules.parse([], [entry])
    assert Rules.parse(["10.1.2.3/8"]).allowed == (ip_network("10.0.0.0/8"),)
