"""The page Refusals: found by everything that is known of a request, told in words, with links to what to change."""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from console.models import Refusal, RefusalKind, ShownCertificate
from console.refusals import paired, prune, refusals_by_reason, store
from identity.models import ACL, Group, User
from tests.console.refused import lane, refused_request
from tests.factories import (
    ACLFactory,
    ExternalPortFactory,
    GroupFactory,
    RegistrationFactory,
    ServiceFactory,
    TruststoreFactory,
    UserFactory,
)
from tests.minting import authority, mint

pytestmark = pytest.mark.django_db
QUERIES = 20


@pytest.fixture
def viewer(as_role: Callable[[str], Client]) -> Client:
    return as_role("viewer")


def shown(client: Client, **query: str) -> list[str]:
    """Paths of the refusals on the first page."""
    return [row.path for row in client.get(reverse("refusals"), query).context["page"]]


def told(number: int, **fields: Any) -> dict[str, Any]:
    """An entry of a node's ring."""
    return {"number": number, "at": timezone.now().timestamp(), "port": "ext", "peer": "192.0.2.1", "chain": [],
            "trace_id": "ab" * 16, "reason": "acl_denied", "status": 403, "lanes": [lane()]} | fields  # fmt: skip


def source(*entries: dict[str, Any], kind: str = "request", name: str = "ring") -> list[dict[str, Any]]:
    return [{"source": name, "kind": kind, "entries": list(entries), "missed": 0, "more": False}]


class TestFinding:
    def test_by_everything_that_is_known_of_it(self, viewer: Client) -> None:
        hour = timedelta(hours=1)
        refused_request(path="/first", certificate="ab" * 32, subject="CN=alice, O=Partner One")
        refused_request(path="/second", user="bob", port="https", reason="not_found", peer="198.51.100.7")
        refused_request(path="/third", user="", reason="ip_denied", at=timezone.now() - 5 * hour)
        refused_request(path="/test", test=True)
        assert shown(viewer) == ["/second", "/first", "/third"]
        assert shown(viewer, tests="yes") == ["/test", "/second", "/first", "/third"]
        assert shown(viewer, user="bob") == shown(viewer, port="https") == shown(viewer, reason="not_found")
        assert shown(viewer, user="bob") == shown(viewer, q="198.51.100.7") == shown(viewer, q="/sec") == ["/second"]
        for query in ("ab" * 32, "abababab", "AB:" * 31 + "AB", "Partner One"):
            assert shown(viewer, certificate=query) == ["/first"], query
        assert shown(viewer, since="hour") == ["/second", "/first"]
        assert shown(viewer, until=(timezone.now() - hour).isoformat()) == ["/third"]
        assert shown(viewer, since="nonsense", reason="nonsense") == ["/second", "/first", "/third"]

    def test_a_trace_leads_to_its_page_however_it_is_written(self, viewer: Client) -> None:
        refused_request(trace_id="0af7651916cd43dd8448eb211c80319c")
        for text in ("0af7651916cd43dd8448eb211c80319c", " 0AF76519-16CD-43DD-8448-EB211C80319C "):
            answer = viewer.get(reverse("refusals"), {"q": text})
            assert answer["Location"] == "/refusals/0af7651916cd43dd8448eb211c80319c/"
        assert viewer.get("/refusals/nothing/").status_code == 404

    def test_pages_ask_the_database_a_bounded_number_of_times(self, viewer: Client) -> None:
        for number in range(60):
            refused_request(path=f"/{number}", certificate=f"{number:064x}", proven=True, lanes=[lane()])
        urls = [reverse("refusals"), reverse("certificates-refused")]
        for url in [*urls, reverse("refusals-detail", args=[Refusal.objects.latest("id").trace_id])]:
            with CaptureQueriesContext(
                connection,
            ) as queries:
                assert viewer.get(url).status_code == 200
            assert len(queries) <= QUERIES, url


class TestTelling:
    def test_both_nodes_words_are_one_page(self, viewer: Client) -> None:
        passed = lane(outcome="pass", reason=None, user=None, route="passed through", steps=[])
        at = timezone.now()
        refused_request(trace_id="ab" * 16, lanes=[passed], user="", at=at)
        refused_request(trace_id="ab" * 16, node="inside", inner=True, head=False, lanes=[lane("inside", "dial")],
                        at=at - timedelta(milliseconds=5))  # fmt: skip
        page = viewer.get(f"/refusals/{'ab' * 16}/")
        (request,) = page.context["requests"]
        assert [each.node for each in request.report.lanes] == ["edge", "inside"]
        assert request.report.refusal.headline == "inside refused at the check “ACL”"

    def test_the_same_trace_twice_is_two_requests(self) -> None:
        at = timezone.now()
        rows = [Refusal(node=node, inner=inner, at=at) for node, inner in
                (("inside", True), ("edge", False), ("inside", True), ("edge", False))]  # fmt: skip
        assert [[row.node for row in told] for _, told in paired(rows)] == [["edge", "inside"], ["edge", "inside"]]

    def test_what_is_wrong_is_mended_by_a_link_that_fills_the_form_in(self, owner: Client) -> None:
        partners = GroupFactory(name="Partners")
        user, acl = UserFactory(name="alice", groups=[partners]), ACLFactory(name="Orders")
        ServiceFactory(name="orders", execute_acl=acl)
        row = refused_request(lanes=[lane("inside")])
        (request,) = owner.get(reverse("refusals-detail", args=[row.trace_id])).context["requests"]
        label, url = request.report.refusal.changes[0]
        assert label == "Add group Partners to ACL Orders"
        page = owner.get(url)
        assert "Filled in by the link that you followed, and not saved" in page.content.decode()
        assert page.context["form"][f"group_{partners.pk.hex}"].value() == "allowed"
        assert not acl.allowed.exists(), "a link changes nothing"
        owner.post(url, {"name": "Orders", f"group_{partners.pk.hex}": "allowed"})
        assert list(acl.allowed.all()) == [partners] and list(user.groups.all()) == [partners]

    @pytest.mark.parametrize(
        ("reason", "label", "field", "value"),
        [
            ("service_not_on_port", "Show /orders at port ext", "service_allow", "/hello\n/orders"),
            ("ip_denied", "Let 192.0.2.1 call port ext", "ip_allow", "192.0.2.1"),
        ],
    )
    def test_ports_too(self, owner: Client, reason: str, label: str, field: str, value: Any) -> None:
        ExternalPortFactory(name="ext", service_access={"default": "deny", "allow": ["/hello"], "deny": []})
        row = refused_request(reason=reason, lanes=[lane(reason=reason, route="")])
        (request,) = owner.get(reverse("refusals-detail", args=[row.trace_id])).context["requests"]
        url = dict(request.report.refusal.changes)[label]
        assert owner.get(url).context["form"][field].value() == value

    def test_channels_methods_and_users_too(self, owner: Client) -> None:
        registration = RegistrationFactory(paths=["/hello"])
        service = ServiceFactory(methods=["GET"])
        user = UserFactory(name="dave", enabled=False)
        group = GroupFactory(name="Partners")
        for url, field, value in (
            (f"/registrations/{registration.pk}/?carry=/orders", "paths", "/hello\n/orders"),
            (f"/services/{service.pk}/?method=PUT", "methods", ["GET", "PUT"]),
            (f"/users/{user.pk}/?enable=1", "enabled", True),
            (f"/users/{user.pk}/?join=Partners", "groups", [group.pk]),
        ):
            assert owner.get(url).context["form"][field].value() == value, url

    def test_a_link_fills_in_nothing_that_makes_no_sense(self, owner: Client, viewer: Client) -> None:
        acl, user, port = ACLFactory(), UserFactory(), ExternalPortFactory()
        for url in (
            f"/acls/{acl.pk}/?allow=Nobody",
            f"/acls/{ACL.objects.get(name='Default').pk}/?allow=Everybody",
            f"/users/{user.pk}/?join=Everybody",
            f"/users/{User.objects.get(name='Default').pk}/?join=Administrators",
            f"/users/{user.pk}/?enable=1",
            f"/ports/{port.pk}/?show=/a/../b",
            f"/ports/{port.pk}/?admit=everybody",
            f"/users/{user.pk}/?name=mallory",
        ):
            page = owner.get(url)
            assert page.context["suggestion"] is None, url
            assert "Filled in by" not in page.content.decode()
        GroupFactory(name="Partners")
        assert viewer.get(f"/acls/{acl.pk}/?allow=Partners").context["suggestion"] is None

    def test_who_is_denied_is_not_let_in_by_one_more_group(self, owner: Client) -> None:
        partners, banned = GroupFactory(name="Partners"), GroupFactory(name="Banned")
        UserFactory(name="alice", groups=[partners, banned])
        ServiceFactory(name="orders", execute_acl=ACLFactory(name="Orders", denied=[banned]))
        row = refused_request(lanes=[lane("inside")])
        (request,) = owner.get(reverse("refusals-detail", args=[row.trace_id])).context["requests"]
        assert request.report.refusal.changes[0][0] == "Open ACL Orders"


class TestKeeping:
    def test_nothing_twice_and_nothing_unreadable(self) -> None:
        entries = [told(1), told(2, at="yesterday"), told(3, lanes=[{"steps": 7}]), told(4, trace_id="cd" * 16)]
        assert store("edge", source(*entries)) == 2
        store("edge", source(*entries))
        assert list(Refusal.objects.order_by("number").values_list("number", flat=True)) == [1, 4]

    def test_a_node_speaks_for_itself_alone(self) -> None:
        """An edge that was broken into puts no words into another's mouth, nor its refusals out of sight."""
        store("edge", source(told(1, node="inside", at=4_000_000_000.0, words="x" * 100_000, path="/\0")))
        row = Refusal.objects.get()
        assert row.node == "edge" == row.lanes[0]["node"]
        assert row.at <= timezone.now() and len(row.words) < 10_000 and "\0" not in row.path
        store("inside", source(told(1)))
        assert Refusal.objects.count() == 2

    def test_the_first_nodes_row_knows_what_the_last_found(self) -> None:
        store("inside", source(told(1, inner=True, reason="acl_denied", user="alice")))
        assert Refusal.objects.requests().get().node == "inside", "nobody else has told of it yet"
        store("edge", source(told(1, reason="endpoint_refused", user="")))
        row = Refusal.objects.requests().get()
        assert (row.node, row.reason, row.cause, row.user) == ("edge", "endpoint_refused", "acl_denied", "alice")

    def test_what_is_too_old_or_too_much_goes(self, settings: Any) -> None:
        settings.REFUSALS_DAYS, settings.REFUSALS_KEPT = 2, 3
        refused_request(at=timezone.now() - timedelta(days=3), path="/old")
        for number in range(5):
            refused_request(path=f"/{number}")
        refused_request(kind=RefusalKind.HANDSHAKE, path="")
        ShownCertificate.objects.create(sha256="ab", pem="", seen_at=timezone.now() - timedelta(days=3))
        prune(timezone.now())
        assert set(Refusal.objects.values_list("path", flat=True)) == {"/2", "/3", "/4", ""}
        assert not ShownCertificate.objects.exists()

    def test_the_last_hour_by_reason_with_its_trend(self) -> None:
        now = timezone.now()
        for minutes, reason, many in ((10, "acl_denied", 3), (70, "acl_denied", 1), (20, "not_found", 1),
                                      (80, "ip_denied", 2), (500, "overloaded", 1)):  # fmt: skip
            for _ in range(many):
                refused_request(reason=reason, at=now - timedelta(minutes=minutes))
        refused_request(reason="not_found", test=True)
        refused_request(reason="not_found", head=False, inner=True)
        found = [(each.reason, each.count, each.before, each.trend) for each in refusals_by_reason(now)]
        assert found == [("acl_denied", 3, 1, "more"), ("not_found", 1, 0, "new"), ("ip_denied", 0, 2, "fewer")]


class TestCertificates:
    def test_a_failed_handshake_leads_to_its_authority(self, owner: Client) -> None:
        root = authority("CN=New Partner CA,O=Six")
        below = authority("CN=New Partner Sub CA,O=Six", root)
        minted = mint("CN=frank,O=Six", below)
        port = ExternalPortFactory(name="ext", tls_truststore=TruststoreFactory(name="partners"))
        chain = [base64.b64encode(each).decode() for each in (minted.der, below.der)]
        entry = told(1, reason="certificate_untrusted", chain=chain, subject="CN=frank, O=Six", issuer="…",
                     certificate=minted.certificate.sha256, trace_id="")  # fmt: skip
        store("edge", source(entry, entry | {"number": 2}, kind="handshake"))
        page = owner.get(reverse("certificates-refused"))
        (row,) = page.context["rows"]
        assert (row["stranger"].count, row["store"]) == (2, port.tls_truststore)
        form = owner.get(row["trust"])
        assert form.context["form"]["add"].value() == below.pem
        assert "compare its fingerprint" in form.context["suggestion"].words
        looked = owner.post(
            row["trust"], {"name": "partners", "revocation": "soft", "add": below.pem, "would_change": "1"}
        )
        assert looked.context["would_change"] is not None
        assert port.tls_truststore.certificates.count() == 1, "it was only looked at"

    def test_one_that_came_without_its_authority_says_whom_to_ask(self, owner: Client) -> None:
        minted = mint("CN=frank,O=Six", authority("CN=New Partner CA,O=Six"))
        ShownCertificate.objects.create(sha256=minted.certificate.sha256, pem=minted.pem, seen_at=timezone.now())
        store_row = TruststoreFactory()
        form = owner.get(f"/truststores/{store_row.pk}/?trust={minted.certificate.sha256}")
        assert "CN=New Partner CA, O=Six" in form.context["suggestion"].words
        assert not form.context["form"]["add"].value()

    def test_what_was_refused_for_nobody_is_mapped_from_its_trace_without_a_file(self, owner: Client) -> None:
        minted = mint("CN=frank,O=Six", authority("CN=New Partner CA,O=Six"))
        ShownCertificate.objects.create(sha256=minted.certificate.sha256, pem=minted.pem, seen_at=timezone.now())
        of_lane = lane("inside", reason="certificate_unmapped")
        row = refused_request(cause="certificate_unmapped", certificate=minted.certificate.sha256, lanes=[of_lane])
        (request,) = owner.get(reverse("refusals-detail", args=[row.trace_id])).context["requests"]
        ((label, url),) = request.report.refusal.changes
        assert label == "Look at the certificate, and map it"
        assert owner.get(url).context["preview"].certificate == minted.certificate
        assert "form" in owner.get(f"{reverse('certificates-add')}?shown=no-such").context

    def test_handshakes_that_showed_none_are_told_too(self, viewer: Client) -> None:
        store("edge", source(told(1, words="unsupported protocol", reason="", trace_id=""), kind="handshake"))
        assert "unsupported protocol" in viewer.get(reverse("certificates-refused")).content.decode()

    def test_who_may_only_look_is_offered_nothing(self, viewer: Client) -> None:
        minted = mint("CN=frank,O=Six", authority("CN=New Partner CA,O=Six"))
        chain = [base64.b64encode(minted.der).decode()]
        store("edge", source(told(1, reason="certificate_unmapped", chain=chain)))
        text = viewer.get(reverse("certificates-refused")).content.decode()
        assert "Look, and map" not in text and "Block" not in text


def test_predefined_groups_are_offered_to_nobody(owner: Client) -> None:
    everybody = Group.objects.get(name="Everybody")
    UserFactory(name="alice")
    ServiceFactory(name="orders", execute_acl=ACLFactory(name="Orders", denied=[], allowed=[]))
    row = refused_request(lanes=[lane("inside")])
    (request,) = owner.get(reverse("refusals-detail", args=[row.trace_id])).context["requests"]
    assert not any(str(everybody) in label for label, _ in request.report.refusal.changes)
