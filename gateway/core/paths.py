"""The one normal form of a request's path, by which every later decision is made and which is sent on."""

import re
from functools import lru_cache

MAX_TARGET = 8 * 1024  # bytes; a port may say otherwise

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*)+/?|/")
_PATH_BYTES = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*")
_QUERY_BYTES = re.compile(r"[\x21-\x7e\x80-\xff]*")
_BAD_QUERY = re.compile(r"[#\\\"<>^`{|}]")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}")
_DOTS = re.compile(r"\.{1,2}")


class PathError(ValueError):
    """A path that two programs could read differently; the message says what in it."""


def normalise(path: str) -> str:
    """`path` in its one normal form (RFC 3986, section 6.2.2, and runs of slashes made one).

    Unreserved characters are decoded, once; other escapes stay, in upper case; dot segments are resolved.

    Raises:
        PathError: what two programs could read differently: a backslash or control character plain or encoded,
            an encoded slash, an encoded percent before two hex digits, a segment that is dots once `;…` is taken
            off, a path that climbs above the root, a character that no path may hold (RFC 3986, section 3.3).
    """
    if _PLAIN.fullmatch(path):
        return path
    return _normalise_slowly(path)


def _normalise_slowly(path: str) -> str:
    if not path.startswith("/"):
        raise PathError("the path does not begin with a slash")
    if not _PATH_BYTES.fullmatch(path):
        raise PathError("the path has a character that a path may not hold")
    decoded = _decode(path)
    segments: list[str] = []
    parts = decoded.split("/")[1:]
    for number, segment in enumerate(parts):
        last = number == len(parts) - 1
        if segment == "":
            if last:
                segments.append("")
            continue
        bare = segment.split(";", 1)[0]
        if segment != bare and (bare == "" or _DOTS.fullmatch(bare)):
            raise PathError("a segment is dots, or nothing, followed by a parameter")
        if segment == "..":
            if not segments:
                raise PathError("the path climbs above the root")
            segments.pop()
            if last:
                segments.append("")
        elif segment == ".":
            if last:
                segments.append("")
        else:
            segments.append(segment)
    return "/" + "/".join(segments)


def _decode(path: str) -> str:
    """Escapes of unreserved characters decoded, the others in upper case, the dangerous ones refused."""
    pieces: list[str] = []
    position = 0
    while (start := path.find("%", position)) >= 0:
        pieces.append(path[position:start])
        match = _ENCODED.match(path, start)
        if match is None:
            raise PathError("a percent sign is not followed by two hex digits")
        byte = int(match[1], 16)
        position = start + 3
        if byte < 0x20 or byte == 0x7F:
            raise PathError("an encoded control character")
        if byte in b"/\\":
            raise PathError("an encoded slash or backslash")
        if byte == 0x25 and _HEX_PAIR.match(path, position):
            raise PathError("an encoded percent before two hex digits")
        pieces.append(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}")
    pieces.append(path[position:])
    return "".join(pieces)


def check_query(query: str) -> None:
    """Raises PathError where a query has what RFC 3986 forbids and servers read differently."""
    if not _QUERY_BYTES.fullmatch(query):
        raise PathError("the query has a control character or a blank")
    if "#" in query:
        raise PathError("the query has a fragment")


def covers(prefix: str, path: str) -> bool:
    """Whether `prefix` is `path` or a folder above it; `/open` never covers `/opener`."""
    if prefix == "/":
        return True
    prefix = prefix.rstrip("/")
    return path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/")


def rebase(path: str, prefix: str, base: str) -> str:
    """`path` with its matched `prefix` replaced by the URL path `base`; no base keeps the whole path.

    API `/gateway/orders` with base `/orders` makes `/orders/7` of `/gateway/orders/7`.
    """
    if not base:
        return path
    rest = path if prefix == "/" else path[len(prefix.rstrip("/")) :]
    if not rest:
        return base
    return base.rstrip("/") + "/" + rest.lstrip("/") if rest != "/" or not base.endswith("/") else base


@lru_cache(maxsize=1024)
def is_normal(path: str) -> bool:
    """Whether a configured path is in normal form already, as every configured path must be."""
    try:
        return normalise(path) == path
    except PathError:
        return False
