"""Masking of what names people and machines: e-mail addresses, public IP addresses, telephone numbers.

By their form alone, as the field's corpora do it (Dolma, FineWeb): section "8.8.4.4" of a manual becomes an address, and
a number in a form of its country's own stays. No document is dropped.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_pipeline.filters.filter import FILTERS, Edited, Filter

_LETTER = "A-Za-zÀ-ÖØ-öø-ɏ"
_LOCAL_BACKWARDS = re.compile(rf"[{_LETTER}0-9._%+'-]*")
_LOCAL_MARKS = "._%+'-"
_LONGEST_LOCAL = 64
_DOMAIN = re.compile(
    rf"(?:[{_LETTER}0-9][{_LETTER}0-9-]{{0,62}}\.){{1,10}}(?:xn--[a-z0-9-]{{2,59}}|[{_LETTER}]{{2,24}})"
)
# Each begins with the characters that it can begin with, which are looked for fast; what must not stand before them
# comes after.
_IPV4 = re.compile(r"[0-9](?<![\w.][0-9])[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:[0-9A-Fa-f:]{0,33}(?:[0-9A-Fa-f]|::)(?!\w)")
_WITH_COUNTRY = re.compile(r"\+(?<![\w+]\+)[1-9](?:[ .()/-]{0,2}[0-9]){7,14}(?!\w)")
_NORTH_AMERICAN = re.compile(
    r"[(1-9](?<![\w.+-][(1-9])"
    r"(?:(?<=1)[-. ]?\([2-9][0-9]{2}\)[-. ]?|(?<=\()[2-9][0-9]{2}\)[-. ]?"
    r"|(?<=1)[-.][2-9][0-9]{2}[-.]|(?<=[2-9])[0-9]{2}[-.])"
    r"[2-9][0-9]{2}[-. ][0-9]{4}(?![\w-])"
)
_ITS_END = re.compile(r"[0-9][0-9]{2}[-. ][0-9]{4}")
# What is not reachable from everywhere (IANA's special-purpose registries, and multicast): one table for all versions of
# Python, whose own changed.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/3", "2001:db8::/32", "3fff::/20"),
    )
]


@dataclass(frozen=True)
class PersonalData(Filter):
    """E-mail addresses, public IP addresses and telephone numbers are masked and counted; nothing is dropped.

    Attributes:
        email, ip, phone: what is written in their place; empty leaves them.
    """

    email: str = "|||EMAIL_ADDRESS|||"
    ip: str = "|||IP_ADDRESS|||"
    phone: str = "|||PHONE_NUMBER|||"

    def keep(self, document: Any) -> Edited:
        counts: Counter[str] = Counter()
        text: str = document.text
        for name, mask in (("email", _mask_emails), ("ip", _mask_addresses), ("phone", _mask_phones)):
            if mark := getattr(self, name):
                text, counts[name] = mask(text, mark)
        return Edited(document._replace(text=text), counts)


def _mask_emails(text: str, mark: str) -> tuple[str, int]:
    """Looks at each @: what stands before it, as far as a name may be long, and after it."""
    parts, done, count = [], 0, 0
    at = text.find("@")
    while at >= 0:
        before = text[max(done, at - _LONGEST_LOCAL) : at]
        local = _local_part(before)
        domain = _DOMAIN.match(text, at + 1) if local else None
        if domain:
            parts += [text[done : at - len(local)], mark]
            done, count = domain.end(), count + 1
        at = text.find("@", at + 1)
    return "".join([*parts, text[done:]]) if count else text, count


def _local_part(before: str) -> str:
    """The end of a text that can be the name before an @; empty where there is none."""
    match = _LOCAL_BACKWARDS.match(before[::-1])
    assert match is not None
    return match[0][::-1].lstrip(_LOCAL_MARKS)


def _mask_addresses(text: str, mark: str) -> tuple[str, int]:
    text, first = _masked(_IPV4, text, mark, _is_public)
    if text.count(":") < 2:
        return text, first
    text, second = _masked(_IPV6, text, mark, _is_public)
    return text, first + second


def _mask_phones(text: str, mark: str) -> tuple[str, int]:
    text, first = _WITH_COUNTRY.subn(lambda found: mark, text)
    if not _ITS_END.search(text):
        return text, first
    text, second = _NORTH_AMERICAN.subn(lambda found: mark, text)
    return text, first + second


def _masked(pattern: re.Pattern[str], text: str, mark: str, counts: Callable[[str], bool]) -> tuple[str, int]:
    """The text with what the pattern finds, where it counts, masked."""
    found = 0

    def replacement(match: re.Match[str]) -> str:
        nonlocal found
        if not counts(match[0]):
            return match[0]
        found += 1
        return mark

    return pattern.sub(replacement, text), found


def _is_public(text: str) -> bool:
    """Whether it is an address that is reachable from everywhere."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


FILTERS.add("pii", PersonalData)
