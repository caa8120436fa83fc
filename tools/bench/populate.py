"""Fills an installation's database for a measurement, and makes one change after the other in it.

    python -m tools.bench.populate CERTIFICATES RULES USERS ACLS

Rows go past the models' checks and past the audit log here, which would take minutes. Then a line on standard input
is one change, made as the console makes it; its number comes back when it is committed.
"""

import sys
from datetime import UTC, datetime
from itertools import count, cycle

import django
from cryptography.hazmat.primitives.asymmetric import ec

from identity.core.certificates import from_der
from tools.bench.minting import mint

REAL = 64  # certificates that are some, for those that are changed are checked


def fill(certificates: int, rules: int, users: int, acls: int) -> None:
    from identity.models import ACL, Certificate, MappingRule, User

    now = datetime.now(UTC)
    User.objects.bulk_create([User(name=f"u{n}") for n in range(users)], batch_size=1000)
    everybody = list(User.objects.filter(name__startswith="u").order_by("pk"))
    ACL.objects.bulk_create([ACL(name=f"acl{n}") for n in range(acls)], batch_size=1000)
    MappingRule.objects.bulk_create(
        [MappingRule(name=f"r{n}", priority=n % 10, subject={"CN": [f"partner{n}"]}, user=everybody[n % users])
         for n in range(rules)], batch_size=500,
    )  # fmt: skip
    Certificate.objects.bulk_create(
        (Certificate(name=f"c{n}", user=everybody[n % users], der=b"none", sha256=f"{n:064x}", subject=f"CN=c{n}",
                     issuer="CN=ca", serial=f"{n:x}", not_before=now, not_after=now)
         for n in range(REAL, certificates)), batch_size=500,
    )  # fmt: skip
    key = ec.generate_private_key(ec.SECP256R1())
    for n in range(REAL):
        row = Certificate(name=f"c{n}", user=everybody[n % users])
        row.set_certificate(from_der(mint(f"c{n}", key.public_key(), "ca", key)))
        Certificate.objects.bulk_create([row])


def change(number: int, kind: str) -> None:
    from gateway.audit import change_set
    from identity.models import ACL, Certificate, MappingRule, User

    with change_set("bench", "one change"):
        match kind:
            case "certificate":
                certificate = Certificate.objects.get(name=f"c{number % REAL}")
                certificate.blocked = not certificate.blocked
                certificate.save()
            case "user":
                user = User.objects.get(name=f"u{number}")
                user.enabled = not user.enabled
                user.save()
            case "rule":
                rule = MappingRule.objects.get(name=f"r{number}")
                rule.priority += 1
                rule.save()
            case _:
                acl = ACL.objects.get(name=f"acl{number}")
                acl.name = f"changed{number}"
                acl.save()


def main() -> None:
    django.setup()
    fill(*map(int, sys.argv[1:5]))
    print("filled", flush=True)
    kinds = cycle(("certificate", "user", "rule", "ACL"))
    for number in count():
        if not sys.stdin.readline():
            return
        change(number, next(kinds))
        print(number, flush=True)


if __name__ == "__main__":
    main()
