"""One row that is sketched: nodes would be told what they are told once it is written, and it never is."""

import random
from collections.abc import Callable
from copy import copy
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from gateway.audit import change_set
from gateway.drafts import Drafts, documents
from gateway.models import Registration
from gateway.sketch import sketch
from identity.models import Certificate, User
from tests import factories
from tests.minting import mint

pytestmark = pytest.mark.django_db


@pytest.fixture
def installation() -> dict[str, Any]:
    """Two nodes that dial in, an edge whose endpoint shows a certificate, users by certificate, rule and password."""
    group = factories.GroupFactory(name="Partners")
    users = [factories.UserFactory(groups=[group], password="correct horse") for _ in range(3)]
    external = factories.ExternalPortFactory(registration_port__name="reg", authenticate=True)
    registrations = [factories.RegistrationFactory(port=external.registration_port) for _ in range(2)]
    for registration in registrations:
        port = factories.InternalPortFactory(registration=registration)
        factories.ServiceFactory(node=port.node, execute_acl=factories.ACLFactory(allowed=[group]))
    shown = mint("CN=edge", factories.partner_ca())
    keystore = factories.KeystoreFactory(minted=shown)
    endpoint = factories.EndpointFactory(url="reverse://reg/x", identity="certificate", keystore=keystore)
    factories.APIFactory(node=external.node, endpoint=endpoint, execute_acl=factories.ACLFactory(allowed=[group]))
    factories.CertificateFactory(minted=shown, user=users[0])
    twice = mint("CN=twice", factories.partner_ca())
    factories.CertificateFactory(minted=twice, user=users[1])
    factories.CertificateFactory(minted=twice, user=users[2], usage="verify")
    for user in users:
        factories.CertificateFactory(user=user)
        factories.MappingRuleFactory(user=user)
    for registration in registrations:  # what blocks one of these shuts a node out
        for usage in ("ssl_authentication", "encrypt"):
            row = Certificate(name=f"{registration.name}-{usage}", der=registration.der, usage=usage)
            with change_set("tests", "the node's certificate is put on file"):
                row.save()
    return {"registrations": registrations}


def switch(field: str) -> Callable[[Any], None]:
    def act(row: Any) -> None:
        setattr(row, field, not getattr(row, field))

    return act


def unmap(row: Certificate) -> None:
    row.user = None


STEPS: list[tuple[type[Model], Callable[[Any], None]]] = [
    (Certificate, switch("blocked")),
    (Certificate, unmap),
    (User, switch("enabled")),
    (Registration, switch("enabled")),
]


def told(found: dict[str, Any]) -> dict[str, Any]:
    return {node: document | {"revision": 0} for node, document in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_sketched_is_what_comes_of_it(installation: dict[str, Any], seed: int) -> None:
    chance, drafts = random.Random(seed), Drafts()
    for _ in range(12):
        before = told(drafts.documents())
        model, act = chance.choice(STEPS)
        row = chance.choice([each for each in model._default_manager.all() if str(each) != "Default"])
        foreseen = told(drafts.sketched(sketch(model, row.pk, act)))
        assert told(drafts.documents()) == before, "what is in force stays known"
        with change_set("tests", "what was sketched is made"):
            act(row)
            row.save()
        assert foreseen == told(documents(certificates=())), f"{row} {act.__qualname__}"


def test_each_step_is_told_to_nodes_at_all(installation: dict[str, Any]) -> None:
    """Else the law above would hold of a sketch that changes nothing."""
    drafts = Drafts()
    now = told(drafts.documents())
    shown = Certificate.objects.get(subject="CN=edge")
    registration = installation["registrations"][0]
    of_node = Certificate.objects.get(name=f"{registration.name}-encrypt")
    cases: list[tuple[Model, Callable[[Any], None]]] = [
        (shown, switch("blocked")), (shown, unmap), (of_node, switch("blocked")), (User.objects.get(
            pk=shown.user_id), switch("enabled")), (registration, switch("enabled")),
    ]  # fmt: skip
    for row, act in cases:
        assert told(drafts.sketched(sketch(type(row), row.pk, act))) != now, f"{row} {act.__qualname__}"


def test_a_node_stays_shut_out_while_another_entry_of_its_certificate_is_blocked(installation: dict[str, Any]) -> None:
    registration = installation["registrations"][0]
    entries = list(Certificate.objects.filter(sha256=registration.sha256))
    with change_set("tests", "both are blocked"):
        for row in entries:
            row.blocked = True
            row.save()
    drafts = Drafts()
    drafts.documents()
    node = registration.node.name
    for row, admitted in ((entries[0], False), (entries[1], True)):
        foreseen = drafts.sketched(sketch(Certificate, row.pk, switch("blocked")))
        assert foreseen[node]["registrations"][registration.name]["enabled"] is admitted
        with change_set("tests", "one after the other is let in"):
            row.blocked = False
            row.save()
        drafts.documents()


def test_a_sketch_writes_nothing_and_asks_little(installation: dict[str, Any]) -> None:
    drafts = Drafts()
    drafts.documents()
    for model, act in STEPS:
        row = model._default_manager.exclude(name="Default").first()
        with CaptureQueriesContext(connection) as queries:
            drafts.sketched(sketch(model, row.pk, act))
        asked = [each["sql"] for each in queries if not each["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        assert all(sql.startswith("SELECT") for sql in asked)
        assert len(asked) <= 9, f"{model.__name__}: {asked}"


def test_what_would_be_refused_cannot_be_sketched() -> None:
    default = User.objects.get(name="Default")
    with pytest.raises(ValidationError, match="cannot be disabled"):
        sketch(User, default.pk, switch("enabled"))


def test_what_hangs_on_the_row_is_asked_as_after_a_change() -> None:
    """A user that is limited to a port which is there no more: stored by whoever went around all checks."""
    user = factories.UserFactory()
    User.objects.filter(pk=user.pk).update(ports=["gone"])
    with pytest.raises(ValidationError, match="There is no port gone"):
        sketch(User, user.pk, switch("enabled"))


def test_another_column_takes_a_change_set() -> None:
    user = factories.UserFactory()

    def rename(row: User) -> None:
        row.name = "other"

    with pytest.raises(ValueError, match="name cannot be sketched"):
        sketch(User, user.pk, rename)


def test_the_row_that_is_stored_is_left_alone() -> None:
    row = factories.CertificateFactory(user=factories.UserFactory())
    found = sketch(Certificate, row.pk, unmap)
    assert (found.before.user, found.after.user) == (row.user, None)
    assert copy(row).user == Certificate.objects.get(pk=row.pk).user
