"""Fills an installation's database for a measurement, and then blocks a certificate as an operator does: by a click.

    python -m tools.bench.click NAME CERTIFICATES RULES USERS ACLS

`ready` is said once it is filled and somebody is logged in; then each line on standard input is a click.
"""

import sys

import django
from django.test import Client
from django.urls import reverse

from tools.bench.populate import fill


def main() -> None:
    name, *sizes = sys.argv[1:]
    django.setup()
    from console.models import Operator, Role
    from identity.models import Certificate

    certificates, rules, users, acls = map(int, sizes)
    fill(certificates, rules, users, acls)
    client = Client(SERVER_NAME="localhost")
    client.force_login(Operator.objects.create_operator("bench", "a password of some words", Role.OWNER))
    url = reverse("certificates-block", args=[Certificate.objects.get(name=name).pk])
    print("ready", flush=True)
    for _ in sys.stdin:
        assert client.post(url).status_code == 302
        assert Certificate.objects.get(name=name).blocked
        print("blocked", flush=True)


if __name__ == "__main__":
    main()
