"""The form of each kind: what it saves, what it refuses, and that nothing is half done."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from gateway.models import API, Change, ChangeSet, Endpoint, Service
from identity.models import ACL, Group, MappingRule, User
from tests import factories


def text(answer: Any) -> str:
    return answer.content.decode()


def test_every_kind_is_saved_as_it_stands(owner: Client, world: dict[str, Model]) -> None:
    """Opening a page and pressing "Save" changes nothing."""
    for kind, row in world.items():
        url = reverse(f"{kind}-edit", args=[row.pk])
        form = owner.get(url).context["form"]
        sent = {}
        for bound in form:
            value = bound.value()
            if value not in (None, False, ""):
                sent[bound.html_name] = "on" if value is True else value
        before = ChangeSet.objects.count()
        answer = owner.post(url, sent)
        assert answer.status_code == 302, (kind, answer.context and answer.context["form"].errors)
        assert ChangeSet.objects.count() == before, (kind, Change.objects.latest("id").after)


def test_a_change_is_recorded_with_who_and_from_where(owner: Client) -> None:
    owner.post("/groups/add/", {"name": "Partners"}, REMOTE_ADDR="192.0.2.9")
    change = Change.objects.get(kind="groups", name="Partners")
    assert change.change_set.actor == "olivia-owner"
    assert change.change_set.address == "192.0.2.9"
    assert change.change_set.message == "group Partners added"
    assert change.after == {"name": "Partners"}


BAD = [
    pytest.param("groups", {"name": "no blanks"}, "name", "Use letters, digits", id="a-name-that-could-forge-a-header"),
    pytest.param("groups", {"name": "Everybody"}, "name", "already exists", id="a-name-that-is-taken"),
    pytest.param(
        "users", {"name": "a", "password": "long enough", "password_again": "other"}, "password_again",
        "The two passwords differ", id="passwords-typed-unlike",
    ),
    pytest.param(
        "users", {"name": "a", "password": "short", "password_again": "short"}, "password",
        "A password has 8 to", id="a-short-password",
    ),
    pytest.param(
        "services", {"name": "s", "path": "/a/../b", "builtin": "echo", "timeout": "1"}, "path",
        "is not in normal form", id="a-path-with-dots",
    ),
    pytest.param(
        "services", {"name": "s", "path": "/a", "backend": "ftp://x/", "timeout": "1"}, "backend",
        "write it like", id="a-backend-that-is-no-url",
    ),
    pytest.param(
        "services", {"name": "s", "path": "/a", "timeout": "1"}, "__all__",
        "exactly one of the two", id="neither-backend-nor-builtin",
    ),
    pytest.param(
        "endpoints", {"name": "e", "url": "reverse://regg/x", "timeout": "1"}, "url",
        "There is no registration port", id="a-registration-port-that-is-not-there",
    ),
    pytest.param(
        "endpoints", {"name": "e", "url": "https://x/", "identity": "caller", "timeout": "1"}, "identity",
        "Use reverse://", id="caller-over-https",
    ),
    pytest.param(
        "endpoints", {"name": "e", "url": "https://x/", "identity": "basic", "username": "u", "timeout": "1"},
        "username", "needs a username and a password", id="basic-without-a-password",
    ),
    pytest.param(
        "mapping_rules", {"name": "r", "priority": "1", "subject": "O = A\nrubbish", "enabled": "on"}, "subject",
        "Line 2: write it like", id="a-condition-that-is-none",
    ),
    pytest.param(
        "mapping_rules", {"name": "r", "priority": "1", "san": "dns:*x.example", "user_from": "cn", "enabled": "on"},
        "san", "stands for one whole DNS label", id="half-a-label",
    ),
    pytest.param(
        "mapping_rules", {"name": "r", "priority": "1", "user_from": "cn", "enabled": "on"}, "__all__",
        "would map every certificate", id="a-rule-without-a-condition",
    ),
    pytest.param(
        "mapping_rules", {"name": "r", "priority": "1", "san": "dns:a.example", "enabled": "on"}, "__all__",
        "Give a user or user_from", id="a-rule-without-a-user",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "typed", "field", "words"), BAD)
def test_bad_input_is_refused_in_words(owner: Client, kind: str, typed: dict[str, str], field: str, words: str) -> None:
    if kind == "services":
        typed = typed | {"node": str(factories.NodeFactory(role="internal", name="inside").pk)}
    before = ChangeSet.objects.count()
    answer = owner.post(f"/{kind}/add/", typed)
    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert words in " ".join(errors.get(field, [])), errors
    assert words in text(answer).replace("&#x27;", "'"), "and it stands on the page"
    assert ChangeSet.objects.count() == before


def test_what_was_typed_is_still_there_but_no_password(owner: Client) -> None:
    typed = {"name": "a b", "description": "kept", "password": "hunter2-hunter2", "password_again": "hunter2-hunter2"}
    page = text(owner.post("/users/add/", typed))
    assert 'value="kept"' in page
    assert "hunter2" not in page


def test_an_error_is_tied_to_its_field(owner: Client) -> None:
    page = text(owner.post("/groups/add/", {"name": "a b"}))
    assert 'aria-invalid="true"' in page
    assert "id_name_error" in page.partition('aria-describedby="')[2].partition('"')[0]
    assert '<a href="#id_name">Name</a>' in page


class TestUsers:
    def test_groups_and_a_password_are_set_at_once(self, owner: Client) -> None:
        partners = factories.GroupFactory(name="Partners")
        typed = {"name": "alice", "enabled": "on", "groups": [str(partners.pk)],
                 "password": "correct horse", "password_again": "correct horse"}  # fmt: skip
        assert owner.post("/users/add/", typed).status_code == 302
        alice = User.objects.get(name="alice")
        assert list(alice.groups.all()) == [partners]
        assert alice.has_password("correct horse")

    def test_an_empty_password_keeps_the_stored_one(self, owner: Client) -> None:
        alice = factories.UserFactory(name="alice", password="correct horse")
        owner.post(f"/users/{alice.pk}/", {"name": "alice", "enabled": "on", "description": "changed"})
        alice.refresh_from_db()
        assert alice.description == "changed"
        assert alice.has_password("correct horse")

    def test_a_password_is_taken_away_by_its_box(self, owner: Client) -> None:
        alice = factories.UserFactory(name="alice", password="correct horse")
        owner.post(f"/users/{alice.pk}/", {"name": "alice", "enabled": "on", "remove_password": "on"})
        alice.refresh_from_db()
        assert alice.password_hash == ""

    def test_everybody_and_anonymous_are_not_offered(self, owner: Client) -> None:
        offered = owner.get("/users/add/").context["form"].fields["groups"].queryset
        assert {group.name for group in offered} == {"Administrators"}

    def test_default_shows_why_it_cannot_be_changed(self, owner: Client) -> None:
        default = User.objects.get(name="Default")
        page = text(owner.get(f"/users/{default.pk}/"))
        assert "Default stands for callers without a credential" in page
        assert 'type="password"' not in page
        owner.post(f"/users/{default.pk}/", {"name": "Renamed", "password": "correct horse", "enabled": ""})
        default.refresh_from_db()
        assert (default.name, default.enabled, default.password_hash) == ("Default", True, "")


class TestACLs:
    def test_each_group_has_one_of_three_words(self, owner: Client) -> None:
        partners, gateways = factories.GroupFactory(name="Partners"), factories.GroupFactory(name="Gateways")
        typed = {"name": "A", f"group_{partners.pk.hex}": "allowed", f"group_{gateways.pk.hex}": "denied"}
        assert owner.post("/acls/add/", typed).status_code == 302
        acl = ACL.objects.get(name="A")
        assert (list(acl.allowed.all()), list(acl.denied.all())) == ([partners], [gateways])
        # From denied to allowed in one step: the group is never on both lists.
        typed[f"group_{gateways.pk.hex}"] = "allowed"
        assert owner.post(f"/acls/{acl.pk}/", typed).status_code == 302
        assert set(acl.allowed.all()) == {partners, gateways}
        assert not acl.denied.exists()

    def test_a_group_that_is_gone_meanwhile_does_no_harm(self, owner: Client) -> None:
        acl = factories.ACLFactory(name="A")
        assert owner.post(f"/acls/{acl.pk}/", {"name": "A", f"group_{'0' * 32}": "allowed"}).status_code == 302
        assert not acl.allowed.exists()

    @pytest.mark.parametrize(
        ("allowed", "denied", "words"),
        [
            pytest.param([], [], "It lets nobody in.", id="nobody"),
            pytest.param(["Partners"], [], "It lets in 1 user, and nobody without a credential.", id="members"),
            pytest.param(["Everybody"], ["Anonymous"], "It lets in every user, and nobody without", id="every-user"),
            pytest.param(["Everybody"], [], "It lets in every user, and callers without any", id="strangers-too"),
            pytest.param(["Anonymous"], [], "It lets in callers without any credential, and no user.", id="strangers"),
            pytest.param(["Everybody"], ["Partners", "Anonymous"], "It lets in 1 user, and nobody", id="denied-beats"),
        ],
    )
    def test_who_it_lets_in_is_said(self, owner: Client, allowed: list[str], denied: list[str], words: str) -> None:
        partners = factories.GroupFactory(name="Partners")
        factories.UserFactory(name="alice", groups=[partners])
        factories.UserFactory(name="bob")
        factories.UserFactory(name="gone", groups=[partners], enabled=False)
        acl = factories.ACLFactory(
            name="A", allowed=Group.objects.filter(name__in=allowed), denied=Group.objects.filter(name__in=denied)
        )
        assert words in text(owner.get(f"/acls/{acl.pk}/"))

    def test_a_predefined_one_keeps_its_groups(self, owner: Client) -> None:
        acl = ACL.objects.get(name="Default")
        before = set(acl.allowed.all()), set(acl.denied.all())
        typed = {"name": "Default", "description": "mine"} | {
            f"group_{group.pk.hex}": "denied" for group in Group.objects.all()
        }
        assert owner.post(f"/acls/{acl.pk}/", typed).status_code == 302
        assert (set(acl.allowed.all()), set(acl.denied.all())) == before


class TestServicesAndEndpoints:
    def test_no_acl_is_told_for_what_it_is(self, owner: Client) -> None:
        assert "Default: every user but Default" in text(owner.get("/services/add/"))

    def test_an_endpoint_shows_where_requests_arrive(self, owner: Client, world: dict[str, Model]) -> None:
        endpoint = factories.EndpointFactory(url="reverse://reg/orders")
        factories.APIFactory(name="orders2", node=world["ports"].node, path="/gateway/orders", endpoint=endpoint)
        page = text(owner.get(f"/endpoints/{endpoint.pk}/"))
        assert "<code>/gateway/orders/7</code>" in page
        assert "<code>/orders/7</code>" in page

    def test_an_endpoints_password_is_written_and_never_read(self, owner: Client) -> None:
        typed = {"name": "b", "url": "https://x.example/", "identity": "basic", "username": "batch",
                 "new_password": "hunter2-hunter2", "timeout": "5"}  # fmt: skip
        assert owner.post("/endpoints/add/", typed).status_code == 302
        endpoint = Endpoint.objects.get(name="b")
        assert endpoint.open_password() == "hunter2-hunter2"
        assert "hunter2" not in text(owner.get(f"/endpoints/{endpoint.pk}/"))
        assert "hunter2" not in str(Change.objects.get(kind="endpoints", name="b").after)
        owner.post(f"/endpoints/{endpoint.pk}/", typed | {"new_password": "", "timeout": "6"})
        endpoint.refresh_from_db()
        assert (endpoint.timeout, endpoint.open_password()) == (6.0, "hunter2-hunter2")


class TestRenames:
    def test_a_ports_list_follows_its_service(self, owner: Client, world: dict[str, Any]) -> None:
        port, service = world["ports"], world["services"]
        with_list = {"default": "deny", "allow": ["orders:whoami", "/x"], "deny": []}
        port.service_access = with_list
        from gateway.audit import change_set

        with change_set("tests", "a list"):
            port.save()
        typed = {"name": "orders:who", "node": service.node_id, "path": "/orders", "builtin": "whoami", "timeout": "60"}
        assert owner.post(f"/services/{service.pk}/", typed).status_code == 302
        port.refresh_from_db()
        assert port.service_access["allow"] == ["orders:who", "/x"]
        changed = {change.name for change in ChangeSet.objects.latest("id").changes.all()}
        assert changed == {"orders:who", "ext"}, "one change set tells of both"

    def test_an_endpoints_url_follows_its_registration_port(self, owner: Client, world: dict[str, Any]) -> None:
        registration_port = world["ports"].registration_port
        form = owner.get(f"/ports/{registration_port.pk}/").context["form"]
        typed = {bound.html_name: bound.value() for bound in form if bound.value() not in (None, False, "")}
        assert owner.post(f"/ports/{registration_port.pk}/", typed | {"name": "reg-2"}).status_code == 302
        assert Endpoint.objects.get(name="orders").url == "reverse://reg-2/orders"


class TestMappingRules:
    def test_an_issuer_is_chosen_among_the_stored_authorities(self, owner: Client, world: dict[str, Any]) -> None:
        choices = dict(owner.get("/mapping_rules/add/").context["form"].fields["issuer"].choices)
        assert "CN=Partner CA, O=Acme" in choices.values()
        value = next(key for key, label in choices.items() if label == "CN=Partner CA, O=Acme")
        typed = {"name": "r", "enabled": "on", "priority": "5", "issuer": value, "subject": "O = Partner One",
                 "user": str(world["users"].pk)}  # fmt: skip
        assert owner.post("/mapping_rules/add/", typed).status_code == 302
        rule = MappingRule.objects.get(name="r")
        assert rule.issuer_spki_sha256 == factories.partner_ca().certificate.spki_sha256
        assert rule.subject == {"O": ["Partner One"]}


def test_a_service_and_an_api_may_be_prefilled_by_a_link(owner: Client, world: dict[str, Model]) -> None:
    node = world["nodes"]
    form = owner.get(f"/services/add/?node={node.pk}&path=/new").context["form"]
    assert (str(form["node"].value()), form["path"].value()) == (str(node.pk), "/new")


@pytest.mark.parametrize("path", ["nodes/add", "apis/add", "services/add", "registrations/add", "ports/add/pair"])
def test_a_list_without_a_choice_says_so_in_words(owner: Client, path: str) -> None:
    page = text(owner.get(f"/{path}/"))
    assert '<option value="" selected>choose one</option>' in page
    assert "---------" not in page


@pytest.mark.parametrize(
    ("role", "place"), [("edge", "pair"), ("internal", "internal"), ("standalone", "regular")], ids=str
)
def test_a_node_without_ports_leads_to_them(owner: Client, role: str, place: str) -> None:
    node = factories.NodeFactory(role=role)
    address = f"/ports/add/{place}/?node={node.pk}"
    assert f'href="{address}"' in text(owner.get(reverse("nodes-edit", args=[node.pk])))
    assert f'<option value="{node.pk}" selected>' in text(owner.get(address))


def test_a_node_with_ports_leads_nowhere(owner: Client, world: dict[str, Any]) -> None:
    assert "Next: its ports" not in text(owner.get(reverse("nodes-edit", args=[world["ports"].node.pk])))


def test_nothing_is_there_yet_is_said_with_what_to_do(owner: Client) -> None:
    for model, kind in ((Service, "services"), (API, "apis")):
        assert not model.objects.exists()
        assert f"There is no {model._meta.verbose_name} yet" in text(owner.get(f"/{kind}/"))
