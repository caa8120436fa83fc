"""What the console costs with much in its database: imports, every page, and what an edit would change for whom.

    python -m tools.bench.console [--certificates 100000]

Everything happens in one process over a database of its own: SQLite, and PostgreSQL where it is installed. Pages are
asked for by Django's client, so what is measured is the console's work and no network. Times are of this process'
processor, which other load on the machine stretches less than the clock; the clock's are beside them.
"""

import argparse
import csv
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests import postgresql
from tools.bench.memory import MIB, peak
from tools.bench.minting import mint
from tools.bench.table import Row, at_most, rendered, unmeasured

ROOT = Path(__file__).resolve().parents[2]
USERS, SERVICES, ACLS, RULES, GROUPS = 10_000, 1_000, 1_000, 1_000, 200
ROUNDS = 5
IMPORT_SECONDS, IMPORT_MIB = 180, 500
LIST_MS, PAGE_MS, QUERIES, ANSWER_SECONDS = 300, 50, 20, 1.0


# --- the installation --------------------------------------------------------------------------------------


def write_sheets(folder: Path, certificates: int) -> None:
    """users.csv and certificates.csv. In a process of its own, for it is no part of what is measured."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_certificate

    key = ec.generate_private_key(ec.SECP256R1())
    with (folder / "users.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["name", "groups"])
        sheet.writerows([f"u{n}", f"G{n % GROUPS} G{n * 7 % GROUPS}"] for n in range(USERS))
    (folder / "partner-ca.pem").write_bytes(
        load_der_x509_certificate(mint("bench CA", key.public_key(), "bench CA", key, authority=True)).public_bytes(
            Encoding.PEM
        )
    )
    with (folder / "certificates.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["name", "user", "certificate"])
        for n in range(certificates):
            der = mint(f"partner{n}", key.public_key(), "bench CA", key)
            pem = load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
            sheet.writerow([f"c{n}", f"u{n % USERS}" if n % 50 else "", pem])


def fill(folder: Path) -> None:
    """All but users and certificates, which are imported."""
    from console.demo import seed
    from gateway.audit import change_set
    from gateway.models import Node, Port, Service
    from identity.core.files import chain_from
    from identity.models import ACL, Group, TrustedCertificate, Truststore

    seed.seed()
    with change_set("bench", "whom its certificates are signed by"):
        anchor = TrustedCertificate(truststore=Truststore.objects.get(name="partners"))
        anchor.set_certificate(chain_from((folder / "partner-ca.pem").read_bytes())[0])
        anchor.save()
    Group.objects.bulk_create([Group(name=f"G{n}") for n in range(GROUPS)])
    groups = list(Group.objects.filter(name__startswith="G").exclude(name="Gateways").order_by("name"))
    ACL.objects.bulk_create([ACL(name=f"acl{n}") for n in range(ACLS)], batch_size=500)
    acls = list(ACL.objects.filter(name__startswith="acl"))
    through = ACL.allowed.through
    through.objects.bulk_create(
        [through(acl=acl, group=groups[(n + k * 13) % len(groups)]) for n, acl in enumerate(acls) for k in range(3)],
        batch_size=500,
    )
    inside = Node.objects.get(name="inside")
    Service.objects.bulk_create(
        [Service(name=f"s{n}", node=inside, path=f"/many/{n}", builtin="whoami", execute_acl=acls[n % len(acls)])
         for n in range(SERVICES)], batch_size=500,
    )  # fmt: skip
    Port.objects.filter(type__in=["external", "internal"]).update(
        service_access={"default": "allow", "allow": [], "deny": []}
    )


def fill_rules() -> None:
    from identity.models import MappingRule, User

    users = list(User.objects.filter(name__startswith="u"))
    MappingRule.objects.bulk_create(
        [MappingRule(name=f"r{n}", priority=n % 10, subject={"CN": [f"partner{n}"]}, user=users[n % len(users)])
         for n in range(RULES)], batch_size=500,
    )  # fmt: skip


def imported(kind: str, path: Path) -> list[Row]:
    """Import a sheet as the page does it: as a job."""
    from console import jobs
    from console.models import Job, JobMode, JobState

    with path.open("rb") as file:
        job = jobs.take(kind, path.name, iter(partial(file.read, MIB), b""), "bench", None)
    rows = []
    for mode in (JobMode.CHECK, JobMode.ALL):
        if mode is JobMode.ALL:
            assert jobs.go_on(job, JobMode.ALL, "bench", None)
        with timed() as took, watched(job.pk) as seen:
            assert jobs.work()
        job = Job.objects.get(pk=job.pk)
        assert job.state == (JobState.CHECKED if mode is JobMode.CHECK else JobState.DONE), job.problem
        what = f"{job.total:,} {kind}: {'looked at' if mode is JobMode.CHECK else 'imported'}"
        rows.append(at_most(what, IMPORT_SECONDS, took.wall, "s", f" ({took.processor:.0f} s of processor)"))
    looks = [done for phase, done in seen if phase == "writing"]
    moves = len(set(looks))
    found = f"{moves} steps in {len(looks)} looks"
    rows.append(Row(f"{what}: progress seen while writing", "moves", found, moves > 1 and 2 * moves > len(looks)))
    rows.append(at_most(f"{what}: memory at most", IMPORT_MIB, peak(os.getpid()) / MIB, "MiB"))
    return rows


class Took:
    wall = processor = 0.0


@contextmanager
def timed() -> Iterator[Took]:
    took = Took()
    wall, processor = time.perf_counter(), time.process_time()
    yield took
    took.wall, took.processor = time.perf_counter() - wall, time.process_time() - processor


@contextmanager
def watched(job: Any) -> Iterator[list[tuple[str, int]]]:
    """What a page would show of a job's progress, asked as often as it is told."""
    from django.db import connection

    from console.models import Job
    from console.progress import EVERY, done_of

    seen: list[tuple[str, int]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            row = Job.objects.get(pk=job)
            seen.append((row.phase, done_of(row)))
        connection.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# --- pages and answers -------------------------------------------------------------------------------------


def asked(act: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float, int]:
    """Milliseconds of the processor and by the clock, at the median; queries."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    act()  # what is kept from one request to the next
    processor, wall = [], []
    for _ in range(rounds):
        with timed() as took:
            act()
        processor.append(took.processor * 1000)
        wall.append(took.wall * 1000)
    with CaptureQueriesContext(connection) as queries:
        act()
    return statistics.median(processor), statistics.median(wall), len(queries)


def pages() -> list[Row]:
    from django.test import Client
    from django.urls import reverse

    from console.models import Operator, Role
    from gateway.topology.entries import SECTIONS

    client = Client(SERVER_NAME="localhost")
    client.force_login(Operator.objects.create_operator("bench", "a password of some words", Role.OWNER))

    def get(url: str) -> Any:
        answer = client.get(url)
        assert answer.status_code in (200, 302), f"{url}: {answer.status_code}"
        return answer

    lists = [reverse(f"{kind}-list") for kind in SECTIONS]
    certificates, users = reverse("certificates-list"), reverse("users-list")
    lists += [f"{certificates}?q=partner77", f"{certificates}?sort=-not_after&page=1500", f"{users}?q=u77",
              reverse("expiry"), reverse("changes")]  # fmt: skip
    rows = []
    for url in lists:
        processor, wall, queries = asked(partial(get, url))
        more = f" ({wall:.0f} ms by the clock, {queries} queries)"
        rows.append(at_most(f"list {url}", LIST_MS, processor, "ms", more))
    names = ["overview", "imports", "invoke", "ports-pair", "certificates-add", "certificates-refused"]
    others = [reverse(name) for name in names]
    others += [reverse("ports-add", args=["external"]), reverse("ports-add", args=["internal"])]
    for kind, model in SECTIONS.items():
        one = model._default_manager.filter(
            name__startswith={
                "services": "s",
                "acls": "acl",
                "users": "u",
                "certificates": "c7",
                "mapping_rules": "r",
                "groups": "G",
            }.get(kind, "")
        ).first()
        assert one is not None, kind
        others.append(reverse(f"{kind}-edit", args=[one.pk]))
        if kind not in ("ports", "certificates", "keystores"):
            others.append(reverse(f"{kind}-add"))
        others.append(reverse(f"{kind}-delete", args=[one.pk]))
    bounds = dict.fromkeys(others, PAGE_MS) | dict.fromkeys(ahead(), ANSWER_SECONDS * 1000)
    for url, most in bounds.items():
        processor, wall, queries = asked(partial(get, url))
        more = f" ({wall:.0f} ms by the clock, {queries} queries)"
        row = at_most(f"page {url}", most, processor, "ms", more)
        rows.append(Row(row.what, row.asked, row.found, bool(row.holds) and queries <= QUERIES))
    return rows


def ahead() -> list[str]:
    """Pages that look at a step before it is taken: what they tell is an answer."""
    from django.urls import reverse

    from gateway.models import Registration
    from identity.models import Certificate, User

    user, certificate = User.objects.get(name="u78"), Certificate.objects.get(name="c77")
    steps = [(certificate, "block"), (certificate, "unmap"), (user, "block"), (Registration.objects.all()[0], "block")]
    return [reverse(f"{row._meta.model_name}s-ahead", args=[row.pk, word]) for row, word in steps]


def edits() -> dict[str, Callable[[], object]]:
    """One of each kind; the argument of `outlook`."""
    from gateway.models import API, Endpoint, Port, Registration, Service
    from identity.models import ACL, Certificate, Group, MappingRule, TrustedCertificate, User

    def setting(model: Any, known_as: str, **values: Any) -> Callable[[], object]:
        def act() -> None:
            row = model.objects.get(name=known_as)
            for field, value in values.items():
                setattr(row, field, value)
            row.save()

        return act

    user = User.objects.get(name="u77")
    return {
        "registration closed": setting(Registration, Registration.objects.earliest("name").name, enabled=False),
        "group renamed": setting(Group, "G7", name="Renamed"),
        "user disabled": setting(User, "u77", enabled=False),
        "user leaves groups": lambda: User.objects.get(name="u77").groups.clear(),
        "user renamed": setting(User, "u77", name="renamed"),
        "ACL denies a group": lambda: ACL.objects.get(name="acl7").denied.add(Group.objects.get(name="G9")),
        "certificate mapped to another": setting(Certificate, "c77", user=User.objects.get(name="u78")),
        "certificate blocked": setting(Certificate, "c77", blocked=True),
        "rule for another": setting(MappingRule, "r7", user=user),
        "service under another ACL": setting(Service, "s7", execute_acl=ACL.objects.get(name="acl9")),
        "port shows nothing": setting(Port, "ext", service_access={"default": "deny", "allow": [], "deny": []}),
        "port closed": setting(Port, "ext", enabled=False),
        "endpoint elsewhere": setting(Endpoint, "reverse-caller", url="reverse://reg/submit"),
        "API under another ACL": setting(API, "caller", execute_acl=ACL.objects.get(name="acl9")),
        "authority of all is gone": lambda: TrustedCertificate.objects.get(subject="CN=bench CA").delete(),
    }


def answers() -> list[Row]:
    from gateway.access.changes import outlook

    rows = []
    for what, edit in edits().items():
        processor, wall, queries = asked(partial(outlook, edit, "bench"), rounds=1)
        print(f"{what}: {processor:.0f} ms", file=sys.stderr)
        more = f" ({wall / 1000:.2f} s by the clock, {queries} queries)"
        rows.append(at_most(f"outlook: {what}", ANSWER_SECONDS, processor / 1000, "s", more))
    return rows


# --- running it --------------------------------------------------------------------------------------------


def inside(folder: Path) -> list[Row]:
    """In a process with the settings of the installation."""
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    fill(folder)
    rows = imported("users", folder / "users.csv") + imported("certificates", folder / "certificates.csv")
    fill_rules()
    return rows + pages() + answers()


def measured_on(folder: Path, database: str, url: str) -> list[Row]:
    env = os.environ | {
        "DATABASE_URL": url, "POSTERN_STATE_DIR": f"{folder}/{database}/state", "STATIC_ROOT": f"{folder}/static",
        "POSTERN_ENV_FILE": os.devnull, "DJANGO_SETTINGS_MODULE": "tests.settings", "LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, "-m", "tools.bench.console", "--inside", str(folder)]
    done = subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return [Row(f"{database}: {what}", *rest) for what, *rest in json.loads(done.stdout.splitlines()[-1])]


def measure(certificates: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "tools.bench.console", "--sheets", name, "--certificates", str(certificates)]
        subprocess.run(command, cwd=ROOT, check=True)
        rows = measured_on(folder, "SQLite", f"sqlite:///{folder}/db.sqlite3")
        try:
            with postgresql.cluster() as server:
                return rows + measured_on(folder, "PostgreSQL", server.url)
        except FileNotFoundError as error:
            return [*rows, unmeasured("PostgreSQL", "as SQLite", str(error))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--certificates", type=int, default=100_000)
    parser.add_argument("--sheets", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sheets:
        write_sheets(options.sheets, options.certificates)
    elif options.inside:
        print(json.dumps([dataclasses.astuple(row) for row in inside(options.inside)]))
    else:
        print(rendered(measure(options.certificates)))


if __name__ == "__main__":
    main()
