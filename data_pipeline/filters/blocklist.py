"""Blocklists of domains and URLs, in files of the user's: a document whose record's URL is on one is dropped.

An entry is `example.com` (its subdomains are meant, too; `.xyz` is a whole top-level domain) or a URL,
`example.com/forum` (and what is below it). Not here: other syntaxes (hosts files, ad blockers' rules), whose lines are
errors.
"""

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from core.errors import UserError
from core.files import decode_text, read_text
from data_pipeline.engine.hashes import identity
from data_pipeline.filters.filter import FILTERS, Edited, Filter, entries_of

_LONGEST_HOST = 253
_FIRST_BYTES = 1 << 20
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}:(?![0-9/])", re.IGNORECASE)  # mailto:
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]{2,45}\]")
_BELOW = "/?&#"  # after a URL, what is below it


class Blocked(NamedTuple):
    """What lists hold.

    Attributes:
        domains: without a dot before them.
        urls: host and path, without scheme and "www.".
        longest: of the URLs, in characters.
    """

    domains: frozenset[str]
    urls: frozenset[str]
    longest: int


@dataclass(frozen=True)
class Blocklist(Filter):
    """Blocklists: documents whose record names a URL that is on one are dropped (`domain`, `url`).

    Attributes:
        lists: files of entries, one a line: example.com (and its subdomains), or example.com/forum (and what is below it).
        url_field: of a record, that holds its URL; meta.url for a field of a table.
    """

    lists: list[str] = field(default_factory=list)
    url_field: str = "url"
    own_paths: ClassVar[tuple[str, ...]] = ("lists",)

    def errors(self, where: str) -> list[str]:
        problems = [] if self.lists else [f"{where}.lists: needed, a file of domains and URLs"]
        if not self.url_field:
            problems.append(f"{where}.url_field: no field is named")
        for path in self.lists:
            try:
                _look_at_start(Path(path))
            except UserError as error:
                problems.append(f"{where}.lists: {error}")
        return problems

    def keep(self, document: Any) -> str | Edited:
        blocked = _blocked(tuple((path, identity(Path(path))) for path in self.lists))
        host, rest = _host_and_rest(_field(document.metadata, self.url_field))
        if not host:
            return Edited(document, {"no_url": 1})
        labels = host.split(".")
        if any(".".join(labels[start:]) in blocked.domains for start in range(len(labels))):
            return "domain"
        url = (host.removeprefix("www.") + rest)[: blocked.longest + 1]
        ends = [place for place, character in enumerate(url) if character in _BELOW]
        if any(url[:end] in blocked.urls for end in [*ends, len(url)]):
            return "url"
        return Edited(document, {})


def _field(metadata: str, name: str) -> str:
    """A field of a record, or of a table in it; empty where it is no text."""
    value: Any = json.loads(metadata) if metadata else {}
    if isinstance(value, dict) and name in value:
        value = value[name]
    else:
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _host_and_rest(url: str) -> tuple[str, str]:
    """A URL's host, as names are compared, and its path and query; empty where it has no host."""
    url = url.strip()
    if _OTHER_SCHEME.match(url):
        return "", ""
    try:
        parts = urlsplit(url if _SCHEME.match(url) else f"//{url}")
        host = (parts.hostname or "").rstrip(".")
        if parts.netloc.rpartition("@")[2].startswith("["):
            host = f"[{host}]"
        if not host.isascii() and len(host) <= _LONGEST_HOST:
            host = host.encode("idna").decode()
    except (ValueError, UnicodeError):
        return "", ""
    if len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        return "", ""
    rest = parts.path.rstrip("/") if not parts.query else f"{parts.path}?{parts.query}"
    return host, rest


def _entry(line: str) -> str:
    """An entry as it is compared: a domain with a dot before it, or a URL without scheme and "www."."""
    if any(map(str.isspace, line)):
        raise ValueError("a blank is in it")
    host, rest = _host_and_rest(line.removeprefix(".") if not _SCHEME.match(line) else line)
    if not host or not ("." in host or line.startswith(".") or host.startswith("[")):
        raise ValueError(
            "neither a domain (example.com, which means its subdomains, too) nor a URL (example.com/forum)"
        )
    return host.removeprefix("www.") + rest if rest else f".{host}"


def _look_at_start(path: Path) -> None:
    """Look at the first megabyte of a list, before anything runs."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_FIRST_BYTES)
            if stream.read(1):
                start = start[: start.rfind(b"\n") + 1]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    entries_of(path, decode_text(start, path), _entry)


@functools.lru_cache(maxsize=2)
def _blocked(lists: tuple[tuple[str, str], ...]) -> Blocked:
    """Read lists, once a process as long as they stay what they are."""
    entries = {entry for path, _ in lists for entry in entries_of(Path(path), read_text(Path(path)), _entry)}
    domains = frozenset(entry[1:] for entry in entries if entry.startswith("."))
    urls = frozenset(entry for entry in entries if not entry.startswith("."))
    return Blocked(domains, urls, max(map(len, urls), default=0))


FILTERS.add("blocklist", Blocklist)
