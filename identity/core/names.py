"""Distinguished names and alternative names as values that can be compared.

A distinguished name is a sequence of sets of attributes (RFC 5280, section 4.1.2.4), never a string: two
programs print the same name differently, and different names alike.
"""

import re
import string
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

# The names that people type for attribute kinds (RFC 4514, section 3, and the ones that OpenSSL prints).
ATTRIBUTE_KINDS: dict[str, x509.ObjectIdentifier] = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "C": NameOID.COUNTRY_NAME,
    "L": NameOID.LOCALITY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "SN": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "T": NameOID.TITLE,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
_KIND_BY_OID = {oid.dotted_string: kind for kind, oid in ATTRIBUTE_KINDS.items()}

SAN_KINDS = ("dns", "email", "uri", "ip")
NAME_PATTERN = r"[A-Za-z0-9_.:@-]{1,255}"
_NAME = re.compile(NAME_PATTERN)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # of a host name, in lower case; `*` is none
_SPECIAL, _ESCAPE = re.compile(r"([,+=<>#;])"), r"\\\1"


def is_name(text: str) -> bool:
    """Whether `text` may name an object: a header or a log line cannot be forged with one."""
    return _NAME.fullmatch(text) is not None


def folded(value: str) -> str:
    """An attribute value as it is compared: outer spaces off, inner runs one, A to Z as a to z; all else as it is.

    RFC 5280, section 7.1, would have the whole of Unicode folded and normalised (RFC 4518), and that makes one name
    of two: K and the Kelvin sign, ß and ss, wide letters and plain ones. Who spells a name in another way than
    another is somebody else here; OpenSSL compares names in this manner too.
    """
    return _SPACES.sub(" ", value).strip(" ").translate(_LOWER)


_SPACES = re.compile(" +")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """`rdns`: one frozenset of (kind, value) per relative name, in the certificate's order.

    `kind` is the short name where one is known, else the dotted OID. Equality is X.500's: the order of
    relative names counts, the order inside a multi-valued one does not, values are compared folded.
    """

    rdns: tuple[frozenset[tuple[str, str]], ...]
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistinguishedName) and self.folded() == other.folded()

    def __hash__(self) -> int:
        return hash(self.folded())

    def folded(self) -> tuple[frozenset[tuple[str, str]], ...]:
        return tuple(frozenset((kind, folded(value)) for kind, value in rdn) for rdn in self.rdns)

    def values(self, kind: str) -> tuple[str, ...]:
        """Every value of one kind of attribute, in order."""
        return tuple(value for rdn in self.rdns for found, value in sorted(rdn) if found == kind)

    def comparable(self) -> str:
        """Every attribute as it is compared, a line for each: `CN=alice`, `O=partner one`. For the index of a
        database, and read back by `from_comparable`; the order of relative names, by which nothing is mapped, is lost.
        """
        lines = sorted(f"{kind}={folded(value).translate(_TO_LINE)}" for rdn in self.rdns for kind, value in rdn)
        return "\n".join(["", *lines, ""])

    @property
    def common_name(self) -> str:
        return next(iter(self.values("CN")), "")

    def __str__(self) -> str:
        return self.text


def comparable_line(kind: str, value: str) -> str:
    """How `DistinguishedName.comparable` has a value that is folded already."""
    return f"\n{kind}={value.translate(_TO_LINE)}\n"


def from_comparable(text: str) -> DistinguishedName:
    """The attributes that `comparable` told, each in a relative name of its own; they have no text for people."""
    pairs = (line.partition("=") for line in text.split("\n") if line)
    escaped = "\\" in text
    return DistinguishedName(
        tuple(frozenset({(kind, _FROM_LINE.sub(_unescaped, value) if escaped else value)}) for kind, _, value in pairs),
        "",
    )


_TO_LINE = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_FROM_LINE = re.compile(r"\\(.)")


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _text_of(rdns: tuple[frozenset[tuple[str, str]], ...]) -> str:
    """For people: most specific attribute first, `, ` between; never compared and never parsed back."""
    escaped = (
        "+".join(f"{kind}={_SPECIAL.sub(_ESCAPE, value)}" for kind, value in sorted(rdn)) for rdn in reversed(rdns)
    )
    return ", ".join(escaped)


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> tuple[str, str]:
    """Kind and value; bits are of a kind of their own, so that no text can spell them."""
    kind = _KIND_BY_OID.get(attribute.oid.dotted_string, attribute.oid.dotted_string)
    value = attribute.value
    return (kind, value) if isinstance(value, str) else (f"{kind};bits", value.hex())


def from_x509(name: x509.Name) -> DistinguishedName:
    rdns = tuple(frozenset(_attribute(attribute) for attribute in rdn) for rdn in name.rdns)
    return DistinguishedName(rdns, _text_of(rdns))


def from_text(text: str) -> DistinguishedName:
    """Parse RFC 4514 text (`CN=Partner CA,O=Acme`).

    Raises:
        ValueError: `text` is no distinguished name; the message says what would be one.
    """
    return from_x509(x509_name(text))


def x509_name(text: str) -> x509.Name:
    """The same as the library has it, for what is to be signed. Raises ValueError."""
    try:
        return x509.Name.from_rfc4514_string(text.strip(), {k: v for k, v in ATTRIBUTE_KINDS.items() if k != "CN"})
    except (ValueError, KeyError) as error:
        raise ValueError(f"{text!r} is not a distinguished name; write it like CN=Partner CA,O=Acme") from error


def alternative_names(extension: x509.SubjectAlternativeName) -> tuple[str, ...]:
    """`dns:…`, `email:…`, `uri:…`, `ip:…` in the certificate's order; host names in lower case."""
    names: list[str] = []
    for name in extension:
        if isinstance(name, x509.DNSName):
            names.append(f"dns:{name.value.lower()}")
        elif isinstance(name, x509.RFC822Name):
            names.append(f"email:{name.value}")
        elif isinstance(name, x509.UniformResourceIdentifier):
            names.append(f"uri:{name.value}")
        elif isinstance(name, x509.IPAddress):
            names.append(f"ip:{name.value}")
    return tuple(names)


def san_matches(pattern: str, name: str) -> bool:
    """Whether `name` (`dns:a.example`) fits `pattern` (`dns:*.example`); `*` stands for one whole DNS label."""
    kind, _, wanted = pattern.partition(":")
    found_kind, _, found = name.partition(":")
    if kind != found_kind:
        return False
    if kind != "dns":
        return wanted == found
    labels, candidates = wanted.lower().split("."), found.split(".")
    return len(labels) == len(candidates) and all(
        (label == "*" and _LABEL.fullmatch(candidate) is not None) or label == candidate
        for label, candidate in zip(labels, candidates, strict=True)
    )


def check_san_pattern(pattern: str) -> None:
    """Raises ValueError, saying what would be right, unless `pattern` is one that `san_matches` understands."""
    kind, separator, value = pattern.partition(":")
    if not separator or kind not in SAN_KINDS or not value:
        raise ValueError(f"{pattern!r} needs a kind and a value, like dns:*.partner.example or email:ops@a.example")
    if "*" in value and (kind != "dns" or any("*" in label and label != "*" for label in value.split("."))):
        raise ValueError(f"{pattern!r}: * stands for one whole DNS label, as in dns:*.partner.example")
    if kind == "dns" and value.replace("*", "").strip(".") == "":
        raise ValueError(f"{pattern!r} would match every host; name at least one label")
