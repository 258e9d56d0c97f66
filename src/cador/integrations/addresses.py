"""Which addresses this server calls. Pure: what is decided here is decided about the very address that is connected to.

A name proves nothing: it may mean another address the next time it is asked for. So a name is looked up once, every
address it has is judged, and the connection goes to one of those that passed.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from cador.domain.errors import Invalid
from cador.ports.outgoing import ChosenBy

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(one) for one in text.split())


NOWHERE: Final = _networks("0.0.0.0/8 224.0.0.0/4 240.0.0.0/4 ::/128 ff00::/8")
"""No host that answers HTTP is there; Linux takes the first for itself."""
METADATA: Final = _networks(
    "169.254.0.0/16 fe80::/10 fec0::/10 fd00:ec2::/32 fd20:ce::254/128 100.100.100.200/32 168.63.129.16/32 "
    "192.0.0.192/32"
)
"""Link-local, and where clouds keep credentials of the machine for whoever asks."""
PRIVATE: Final = _networks(
    "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 "
    "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 ::1/128 fc00::/7 100::/64 2001::/23 2001:db8::/32 3fff::/20 5f00::/16"
)
"""Loopback, private networks, and what is set apart for other uses."""
_EMBEDDED: Final = (
    # Networks whose addresses stand for an IPv4 address: (network, how far its last bit is from the right)
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("2002::/16"), 80),
)
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

BAD_PORTS: Final = frozenset(
    {0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109}
    | {110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530}
    | {531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190}
    | {5060, 5061, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211}
)
"""Ports of other protocols, some of whose servers take lines of an HTTP request for their own: those that browsers
refuse, Redis and memcached."""

_NUMBER: Final = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)\Z")
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\Z")


def inner(address: Address) -> tuple[Address, ...]:
    """*address*, and the IPv4 address that it stands for, if it does."""
    if isinstance(address, IPv4Address):
        return (address,)
    plain = IPv6Address(int(address))  # without the name of an interface
    number = int(plain)
    found: list[Address] = [plain]
    for network, shift in _EMBEDDED:
        if plain in network and number > 1:  # neither nobody nor oneself
            found.append(IPv4Address(number >> shift & 0xFFFFFFFF))
    if plain in _NAT64_LOCAL:
        # 48 bits of network, then 16 bits, 8 of zeros, 16 bits more.
        found.append(IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF))
        found.append(IPv4Address(number & 0xFFFFFFFF))
    if plain in _TEREDO:
        found.append(IPv4Address(number >> 64 & 0xFFFFFFFF))
        found.append(IPv4Address(~number & 0xFFFFFFFF))
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(IPv4Address(number & 0xFFFFFFFF))
    return tuple(found)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def literal(host: str) -> Address | None:
    """The address that *host* spells out, None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def strange(host: str) -> str:
    """Why *host* is no way to write a host, ``""`` when it is one. Some resolvers read ``2130706433``, ``0x7f.1`` and
    ``0177.0.0.1`` as 127.0.0.1."""
    if not host or len(host) > 253 or any(ord(c) <= 0x20 or ord(c) == 0x7F or c in '%/\\@?#"<>^`{|}' for c in host):
        return "it has no host that could be called"
    if literal(host) is None and _NUMBER.match(host.rstrip(".").rpartition(".")[2]):
        return "its host is a number that is no address"
    return ""


@dataclass(frozen=True, slots=True)
class Rules:
    """Addresses and names that are allowed although they are not public, and those that are refused although they are.
    What is refused is refused."""

    allowed: tuple[Network, ...] = ()
    allowed_names: tuple[str, ...] = ()
    denied: tuple[Network, ...] = ()
    denied_names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> "Rules":
        """From settings: networks (``10.0.0.0/8``), addresses, names, and ``*.example.com`` for all below a name.

        Raises: Invalid: an entry is none of these.
        """
        allowed, allowed_names = _entries("outgoing.allow", allow)
        denied, denied_names = _entries("outgoing.deny", deny)
        return cls(allowed, allowed_names, denied, denied_names)

    def refuses_name(self, host: str) -> str:
        """Why no host of that name is called, ``""`` when its addresses decide."""
        return "the setting outgoing.deny names its host" if _named(host, self.denied_names) else ""

    def refuses(self, host: str, address: Address, chosen_by: ChosenBy) -> str:
        """Why *address*, which *host* means, is not called; ``""`` when it is."""
        meant = inner(address)
        if any(_within(one, self.denied) for one in meant):
            return f"the setting outgoing.deny names {address}"
        if any(_within(one, NOWHERE) for one in meant):
            return f"{address} is no address of a server"
        if (
            _named(host, self.allowed_names)
            or _within(meant[0], self.allowed)
            or all(_within(one, self.allowed) for one in meant[1:] or meant)
        ):
            return ""
        secret = any(_within(one, METADATA) for one in meant)
        private = any(_within(one, PRIVATE) for one in meant) or len(meant) > 1
        if secret or (private and chosen_by == "user"):
            return f"{address} is not a public address, and the setting outgoing.allow does not name it"
        return ""


def _named(host: str, names: Iterable[str]) -> bool:
    host = host.rstrip(".").lower()
    return any(host.endswith(name[1:]) if name.startswith("*.") else host == name for name in names)


def _entries(setting: str, entries: Sequence[str]) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    networks: list[Network] = []
    names: list[str] = []
    for entry in entries:
        text = entry.strip().lower().rstrip(".")
        try:
            networks.append(ip_network(text.strip("[]"), strict=False))
        except ValueError:
            if not _NAME.match(text) or strange(text.removeprefix("*.")):
                raise Invalid(
                    f"{setting}: {entry!r} is not a network (10.0.0.0/8), an address or a name (*.example.com)"
                ) from None
            names.append(text)
    return tuple(networks), tuple(names)
