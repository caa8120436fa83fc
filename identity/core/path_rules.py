"""A path from a client's certificate to an anchor, each link's signature checked already → what forbids it.

RFC 5280, section 6.1, but for signatures, time and revocation: path length, name constraints and policies.
"""

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509.oid import CertificatePoliciesOID

from identity.core import constraints, der
from identity.core.certificates import Certificate

_ANY = CertificatePoliciesOID.ANY_POLICY.dotted_string
_POLICY_MAPPINGS = x509.ObjectIdentifier("2.5.29.33")
_NEVER = 1 << 30  # a counter that no path counts down


def fault(path: Sequence[Certificate], max_intermediates: int) -> str | None:
    """`path`: the client's certificate first, the anchor last. None where nothing forbids it. Never raises."""
    try:
        return (
            _too_long(path, max_intermediates)
            or _name_constraints(path)
            or _policies(tuple(reversed(path[:-1] or path)))
        )
    except (ValueError, IndexError, TypeError) as error:
        return str(error)


def _too_long(path: Sequence[Certificate], max_intermediates: int) -> str | None:
    """Certificates that an authority issued to itself do not count (RFC 5280, section 6.1.4 (l))."""
    below = 0
    for link in path[1:]:
        limit = link.extension(x509.BasicConstraints)
        allowed = limit.value.path_length if limit is not None else None
        if allowed is not None and below > allowed:
            return f"the path length constraint of {link.title} allows {allowed} below it, and there are {below}"
        if link is not path[-1] and not link.self_issued:
            below += 1
    if below > max_intermediates:
        return f"there are {below} authorities between, and the truststore allows {max_intermediates}"
    return None


def _name_constraints(path: Sequence[Certificate]) -> str | None:
    names = [constraints.names_of(link, client=number == 0) for number, link in enumerate(path)]
    budget = constraints.MAX_COMPARISONS
    for height, above in enumerate(path[1:], 1):
        limits = constraints.constraints_of(above)
        if limits is None:
            continue
        for number in range(height):
            if number and path[number].self_issued:
                continue
            budget -= constraints.comparisons(names[number], limits)
            if budget < 0:
                return (
                    f"there are more names and name constraints than {constraints.MAX_COMPARISONS} comparisons decide"
                )
            words = constraints.violation(names[number], limits)
            if words:
                return f"the name constraints of {above.title}: {words}"
    return None


# --- policies ---


def _policies(path: Sequence[Certificate]) -> str | None:
    """Section 6.1's policy tree, a level at a time, with any policy acceptable to us.

    Whether the tree is empty is all that matters then, and it is when its last level is. `path`: from below the
    anchor down to the client. Nodes of one level with one policy are one here, so that no path makes it grow.
    """
    level: dict[str, frozenset[str]] = {_ANY: frozenset({_ANY})}  # valid policy → policies expected below it
    explicit, inhibit_any, inhibit_mapping = _NEVER, _NEVER, _NEVER
    for number, link in enumerate(path):
        last = number == len(path) - 1
        level = _next_level(level, link, any_counts=inhibit_any > 0 or (not last and link.self_issued))
        if not level and explicit <= 0:
            return f"{link.title} is under none of the policies that an authority above it requires"
        limits = link.extension(x509.PolicyConstraints)
        if last:
            if explicit > 0:
                explicit -= 1
            if limits is not None and limits.value.require_explicit_policy == 0:
                explicit = 0
            break
        mappings = list(_mappings(link))
        if any(_ANY in pair for pair in mappings):
            return f"{link.title} maps the policy that means any"
        level = _mapped(level, mappings, allowed=inhibit_mapping > 0)
        if not link.self_issued:
            explicit, inhibit_any, inhibit_mapping = explicit - 1, inhibit_any - 1, inhibit_mapping - 1
        if limits is not None:
            explicit = _lower(explicit, limits.value.require_explicit_policy)
            inhibit_mapping = _lower(inhibit_mapping, limits.value.inhibit_policy_mapping)
        skip = link.extension(x509.InhibitAnyPolicy)
        inhibit_any = _lower(inhibit_any, skip.value.skip_certs if skip is not None else None)
    if explicit <= 0 and not level:
        return f"{path[-1].title} is under none of the policies that an authority above it requires"
    return None


def _lower(counter: int, limit: int | None) -> int:
    return counter if limit is None else min(counter, limit)


def _next_level(level: dict[str, frozenset[str]], link: Certificate, *, any_counts: bool) -> dict[str, frozenset[str]]:
    named = link.extension(x509.CertificatePolicies)
    if named is None:
        return {}
    own = [policy.policy_identifier.dotted_string for policy in named.value]
    if len(set(own)) != len(own):
        raise ValueError(f"{link.title} names a policy twice")
    expected = frozenset().union(*level.values())
    found = {policy: frozenset({policy}) for policy in own if policy != _ANY and (policy in expected or _ANY in level)}
    if _ANY in own and any_counts:
        for policy in expected - found.keys():
            found[policy] = frozenset({policy})
    return found


def _mapped(
    level: dict[str, frozenset[str]], mappings: list[tuple[str, str]], *, allowed: bool
) -> dict[str, frozenset[str]]:
    mapped: dict[str, set[str]] = {}
    for issuers, subjects in mappings:
        mapped.setdefault(issuers, set()).add(subjects)
    found = dict(level)
    for issuers, subjects_all in mapped.items():
        if not allowed:
            found.pop(issuers, None)
        elif issuers in level or _ANY in level:
            found[issuers] = frozenset(subjects_all)
    return found


def _mappings(link: Certificate) -> Iterator[tuple[str, str]]:
    """Issuer's and subject's policy, which the parser leaves unread."""
    for extension in link.parsed.extensions:
        if extension.oid == _POLICY_MAPPINGS and isinstance(extension.value, x509.UnrecognizedExtension):
            (sequence,) = der.read(extension.value.value)
            for pair in der.read(sequence.content):
                issuers, subjects = (_dotted(value.content) for value in der.read(pair.content))
                yield issuers, subjects


def _dotted(content: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
