"""Nodes on machines of their own, as the console shows them: a bundle, what is known of the machine, disowning."""

import re
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.doctor import examine
from gateway import enrolments, rotation
from gateway.core.enrolment import EnrolmentError, read_bundle
from gateway.models import Authority, Change, Enrolment, Node, NodeStatus
from identity.core import authority
from tests.factories import ExternalPortFactory, NodeFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def edge() -> Node:
    return ExternalPortFactory(registration_port__name="reg").node


def bundle_on(page: str) -> str:
    found = re.search(r"postern-enrolment-1\.[\w-]+", page)
    assert found is not None
    return found[0]


def enrolled(node: Node) -> Enrolment:
    """With a certificate, as after its bundle was used."""
    bundle = enrolments.offer(node, "test", None)
    enrolments.certify(node.name, authority.request(authority.new_key(), node.name), bundle.key)
    return Enrolment.objects.get(node=node)


def test_a_bundle_is_shown_once_and_its_secret_is_nowhere(owner: Client, edge: Node) -> None:
    url = reverse("nodes-enrol", args=[edge.pk])
    asked = owner.get(url).content.decode()
    address = edge.ports.get(name="reg").bind
    assert f'value="{address}"' in asked, "where it is known to be reached is filled in"
    answer = owner.post(url, {"address": "edge.example:9443"})
    assert answer["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    bundle = read_bundle(bundle_on(answer.content.decode()))
    assert (bundle.node, bundle.role, bundle.listen) == (edge.name, "edge", address)
    row = Enrolment.objects.get(node=edge)
    assert row.address == "edge.example:9443" and row.is_awaited() and not row.is_enrolled
    assert bundle.key not in bytes(row.proof_key), "what proves it is sealed"
    change = Change.objects.get(kind="enrolments")
    assert bundle.secret not in str(change.after) and change.after["state"] == "awaited"
    page = owner.get(reverse("nodes-edit", args=[edge.pk])).content.decode()
    assert "awaited" in page and bundle.secret not in page


def test_an_edge_without_a_registration_port_cannot_be_reached(owner: Client) -> None:
    node = NodeFactory()
    answer = owner.post(reverse("nodes-enrol", args=[node.pk]), {"address": "edge.example:9443"})
    assert answer.status_code == 422 and "no registration port" in answer.content.decode()


def test_where_it_is_reached_has_to_be_an_address(owner: Client, edge: Node) -> None:
    answer = owner.post(reverse("nodes-enrol", args=[edge.pk]), {"address": "edge"})
    assert answer.status_code == 422
    assert not Enrolment.objects.exists()


def test_an_internal_node_needs_an_address_of_the_console(owner: Client, settings: Any) -> None:
    node = NodeFactory(role="internal", name="inside")
    url = reverse("nodes-enrol", args=[node.pk])
    settings.CONSOLE_NODES_ADDRESS = []
    assert "set CONSOLE_NODES_BIND" in owner.post(url).content.decode()
    settings.CONSOLE_NODES_ADDRESS = ["console.example:9444"]
    assert read_bundle(bundle_on(owner.post(url).content.decode())).consoles == ("console.example:9444",)


def test_the_page_tells_what_is_in_force_and_what_is_on_its_way(owner: Client, edge: Node) -> None:
    enrolled(edge)
    now = timezone.now()
    NodeStatus.objects.create(node=edge, courier="console:7", linked=True, since=now, heard=now, revision=7,
                              in_force_since=now, on_way=8, on_way_since=now)  # fmt: skip
    page = owner.get(reverse("nodes-edit", args=[edge.pk])).content.decode()
    assert "linked</span> since" in page and "revision 7 since" in page and "revision 8 since" in page
    NodeStatus.objects.update(linked=False, problem="edge.example:9443: no route to host")
    page = owner.get(reverse("nodes-edit", args=[edge.pk])).content.decode()
    assert "not linked" in page and "no route to host" in page


def test_one_click_disowns_a_machine(owner: Client, edge: Node) -> None:
    row = enrolled(edge)
    serial = row.serial
    answer = owner.post(reverse("nodes-disown", args=[edge.pk]), follow=True)
    assert "disowned" in answer.content.decode() and "disable its registrations" in answer.content.decode()
    assert serial not in str(enrolments.known_nodes())
    change = Change.objects.filter(kind="enrolments").latest("id")
    assert (change.before["certificate"], change.after["state"]) == (serial, "disowned")


def test_the_overview_tells_whose_courier_is_missing(owner: Client, edge: Node) -> None:
    enrolled(edge)
    page = owner.get(reverse("overview")).content.decode()
    assert "runs on a machine of its own" in page and "manage.py courier" in page


def test_a_machine_that_did_not_renew_is_a_concern(owner: Client, edge: Node) -> None:
    enrolled(edge)
    assert "machine ends in" not in owner.get(reverse("overview")).content.decode()
    Enrolment.objects.update(certificate_ends=timezone.now() + timedelta(days=12, hours=1))
    assert f"The certificate of node {edge}" in owner.get(reverse("overview")).content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_bundle_is_for_those_who_may_change_whom_is_trusted(
    as_role: Callable[[str], Client], edge: Node, role: str
) -> None:
    client = as_role(role)
    assert "Enrol on its own machine" not in client.get(reverse("nodes-edit", args=[edge.pk])).content.decode()
    for name in ("nodes-enrol", "nodes-disown"):
        assert client.post(reverse(name, args=[edge.pk])).status_code == 403


def test_the_doctor_looks_here_for_nobody_who_runs_elsewhere(edge: Node) -> None:
    edge.ports.filter(name="reg").update(bind="192.0.2.1:9443")
    assert [each.subject for each in examine() if each.subject.startswith("port ")], "this machine has no such address"
    enrolled(edge)
    found = [each for each in examine() if each.subject.startswith(("port ", "node "))]
    assert [each.subject for each in found] == [f"node {edge}"], "its ports are its machine's"
    assert "postern-node status" in found[0].remedy


# --- without pages ---


def test_a_bundle_is_claimed_once(edge: Node) -> None:
    bundle = enrolments.offer(edge, "test", None)
    asked = authority.request(authority.new_key(), edge.name)
    enrolments.certify(edge.name, asked, bundle.key)
    with pytest.raises(EnrolmentError, match="no bundle for node"):
        enrolments.certify(edge.name, asked, bundle.key)


def test_a_bundle_ends(edge: Node) -> None:
    bundle = enrolments.offer(edge, "test", None, now=timezone.now() - timedelta(hours=2))
    assert enrolments.known_nodes() == {}
    with pytest.raises(EnrolmentError, match="no bundle for node"):
        enrolments.certify(edge.name, authority.request(authority.new_key(), edge.name), bundle.key)


def test_a_newer_bundle_makes_the_one_before_worthless(edge: Node) -> None:
    first, second = (enrolments.offer(edge, "test", None) for _ in range(2))
    assert enrolments.known_nodes()[edge.name].proof_key == second.key != first.key
    asked = authority.request(authority.new_key(), edge.name)
    with pytest.raises(EnrolmentError, match="no bundle for node"):  # its proof was checked before there was another
        enrolments.certify(edge.name, asked, first.key)
    enrolments.certify(edge.name, asked, second.key)


def test_a_machine_that_lost_its_node_is_not_renewed(edge: Node) -> None:
    """Its link may outlast that by a moment, in which it may answer what it was asked before."""
    first, second = enrolled(edge).serial, enrolled(edge).serial
    asked = authority.request(authority.new_key(), edge.name)
    with pytest.raises(EnrolmentError, match="another certificate by now"):
        enrolments.renew(edge.name, asked, first)
    assert enrolments.known_nodes()[edge.name].serials == {second}
    enrolments.disown(edge, "test", None)
    with pytest.raises(EnrolmentError, match="not enrolled"):
        enrolments.renew(edge.name, asked, second)


def test_a_renewed_certificate_takes_over_once_it_is_used(edge: Node) -> None:
    first = enrolled(edge).serial
    pem = enrolments.renew(edge.name, authority.request(authority.new_key(), edge.name), first)
    renewed = authority.Pair(pem, "").parsed
    assert enrolments.known_nodes()[edge.name].serials == {first, authority.serial_of(renewed)}
    enrolments.seen(edge.name, renewed)
    assert enrolments.known_nodes()[edge.name].serials == {authority.serial_of(renewed)}


def test_two_consoles_may_renew_at_once(edge: Node) -> None:
    first = enrolled(edge).serial
    asked = authority.request(authority.new_key(), edge.name)
    renewed = [authority.Pair(enrolments.renew(edge.name, asked, first), "").parsed for _ in range(2)]
    serials = [authority.serial_of(each) for each in renewed]
    assert enrolments.known_nodes()[edge.name].serials == {first, *serials}, "which one the node has is not known yet"
    enrolments.seen(edge.name, renewed[0])
    assert enrolments.known_nodes()[edge.name].serials == {serials[0]}
    enrolments.seen(edge.name, renewed[1])
    assert enrolments.known_nodes()[edge.name].serials == {serials[0]}, "it is worth nothing any more"


def test_a_renewal_by_a_console_of_the_version_before_is_known(edge: Node) -> None:
    first = enrolled(edge).serial
    Enrolment.objects.update(next_serial="abc")
    pem = enrolments.renew(edge.name, authority.request(authority.new_key(), edge.name), first)
    serial = authority.serial_of(authority.Pair(pem, "").parsed)
    assert enrolments.known_nodes()[edge.name].serials == {first, "abc", serial}
    assert Enrolment.objects.get().next_serial == serial, "and it knows ours"


def test_there_is_one_authority_and_its_console_is_renewed(edge: Node) -> None:
    row = enrolments.authority_row()
    assert enrolments.authority_row().certificate == row.certificate
    assert b"PRIVATE KEY" not in bytes(row.key) + bytes(row.console_key)
    old = authority.certify_console(row.pair, timezone.now() - timedelta(days=80))
    Authority.objects.update(console_certificate=old.certificate)
    after = enrolments.authority_row()
    assert after.certificate == row.certificate and not authority.is_due(after.console.parsed, timezone.now())


def test_where_internal_nodes_dial_is_where_the_console_does_too(edge: Node) -> None:
    assert enrolments.addresses_of(edge, "edge.example:9443") == [
        "edge.example:9443", edge.ports.get(name="reg").bind
    ]  # fmt: skip


def test_an_enrolled_node_keeps_its_name_and_role(owner: Client, edge: Node) -> None:
    enrolled(edge)
    url = reverse("nodes-edit", args=[edge.pk])
    for changed in ({"name": "other", "role": "edge"}, {"name": edge.name, "role": "standalone"}):
        answer = owner.post(url, changed)
        assert answer.status_code == 422 and "disown the machine first" in answer.content.decode()
    assert owner.post(url, {"name": edge.name, "role": "edge", "description": "in the DMZ"}).status_code == 302
    owner.post(reverse("nodes-disown", args=[edge.pk]))
    assert owner.post(url, {"name": "other", "role": "edge"}).status_code == 302


def test_an_enrolled_node_is_not_run_here(edge: Node) -> None:
    enrolled(edge)
    with pytest.raises(CommandError, match="machine of its own"):
        call_command("relay", "--node", edge.name)
    with pytest.raises(CommandError, match="machine of its own"):
        call_command("serve", "--no-console", "--node", edge.name)


def test_a_bundle_and_disowning_are_commands_too(edge: Node) -> None:
    out = StringIO()
    call_command("bundle", "--node", edge.name, "--address", "edge.example:9443", stdout=out)
    assert read_bundle(out.getvalue()).node == edge.name
    call_command("disown", "--node", edge.name, stdout=out)
    assert "goes on with" in out.getvalue() and enrolments.known_nodes() == {}
    for command, *words in (("bundle", "nobody"), ("bundle", edge.name, "--address", "x"), ("disown", "nobody")):
        with pytest.raises(CommandError):
            call_command(command, "--node", *words, stdout=out)


def test_the_authority_is_exchanged_for_another(edge: Node) -> None:
    first = enrolled(edge).serial
    offered = NodeFactory(name="offered", role="internal")
    Enrolment.objects.create(node=offered, bundle_ends=timezone.now() + timedelta(hours=1), proof_key=b"x")
    before, out = enrolments.authority_row(), StringIO()
    call_command("rotate-authority", stdout=out)
    assert f"certificate of the new one: {edge.name}." in out.getvalue()
    row = enrolments.authority_row()
    assert row.certificate != before.certificate and row.believed == row.certificate + before.certificate
    authority.require_console(row.shown.parsed, (before.pair.parsed,))
    authority.require_console(row.console.parsed, (row.pair.parsed,))
    assert enrolments.known_nodes().keys() == {edge.name}, "a bundle that pins the old one is worth nothing"
    with pytest.raises(CommandError, match=f"already.* {edge.name}"):
        call_command("rotate-authority")
    with pytest.raises(CommandError, match="goes with --drop-old"):
        call_command("rotate-authority", "--force")
    with pytest.raises(CommandError, match=f"Cut off would be: {edge.name}"):
        call_command("rotate-authority", "--drop-old")
    assert any(each.subject == "authority of nodes" and edge.name in each.words for each in examine())
    # A renewal is of the new one; used, it leaves nobody behind.
    pem = enrolments.renew(edge.name, authority.request(authority.new_key(), edge.name), first)
    assert rotation.left_behind() == [edge.name], "it is not in use yet"
    enrolments.seen(edge.name, authority.Pair(pem, "").parsed)
    assert rotation.left_behind() == []
    call_command("rotate-authority", "--drop-old", stdout=out)
    row = enrolments.authority_row()
    assert (row.believed, row.shown) == (row.certificate, row.console) and not bytes(row.old_console_key)
    with pytest.raises(CommandError, match="no old authority"):
        call_command("rotate-authority", "--drop-old")
    begun, ended = Change.objects.filter(kind="authority").order_by("pk")
    assert len(begun.after["believed"]) == 2 and ended.after["believed"] == begun.after["believed"][:1]


def test_a_certificate_that_has_ended_holds_no_authority(edge: Node) -> None:
    enrolled(edge)
    rotation.begin("test")
    assert rotation.left_behind() == [edge.name]
    assert rotation.progress(timezone.now() + timedelta(days=91)).behind == []


def pill(page: str, name: str) -> str:
    """What the page of the authority tells of one node's certificate."""
    row = next(each for each in page.split("<tr>") if f">{name}</a>" in each)
    return re.findall(r'class="pill \w+">([^<]+)<', row)[-1]


def test_the_page_of_the_authority_tells_how_far_each_node_is(owner: Client, edge: Node, settings: Any) -> None:
    settings.CONSOLE_NODES_ADDRESS = ["console.example:9444"]
    inside = NodeFactory(name="inside", role="internal")
    assert "when the first bundle is" in owner.get(reverse("authority")).content.decode()
    first = {node.name: enrolled(node) for node in (edge, inside)}
    url = reverse("authority")
    assert {pill(owner.get(url).content.decode(), name) for name in first} == {"current"}
    Enrolment.objects.filter(node=inside).update(authority="")  # it was enrolled before any exchange was thought of
    assert pill(owner.get(url).content.decode(), "inside") == "current"
    answer = owner.post(reverse("authority-exchange"), follow=True)
    assert "A new authority signs" in answer.content.decode()
    page = owner.get(url).content.decode()
    assert {pill(page, name) for name in first} == {"of the old one"}
    assert page.count("It believes the old one alone") == 2
    now, row = timezone.now(), enrolments.authority_row()
    status = NodeStatus.objects.create(node=edge, courier="one", linked=True, since=now, heard=now)
    assert "older version cannot be told" in owner.get(url).content.decode()
    status.authorities = [authority.fingerprint_of(each) for each in authority.read_authorities(row.believed)]
    status.save()
    assert "It believes the new one already" in owner.get(url).content.decode()
    pem = enrolments.renew(edge.name, authority.request(authority.new_key(), edge.name), first[edge.name].serial)
    enrolments.seen(edge.name, authority.Pair(pem, "").parsed)
    assert pill(owner.get(url).content.decode(), edge.name) == "of the new one"
    assert "already" in owner.post(reverse("authority-exchange"), follow=True).content.decode()


def test_who_is_cut_off_is_given_up_by_name_and_shown_as_lost(owner: Client, edge: Node, settings: Any) -> None:
    settings.CONSOLE_NODES_ADDRESS = ["console.example:9444"]
    inside = NodeFactory(name="inside", role="internal")
    for node in (edge, inside):
        enrolled(node)
    assert "no old authority" in owner.post(reverse("authority-drop"), follow=True).content.decode()
    rotation.begin("test")
    for ticked in ([], [edge.name]):
        answer = owner.post(reverse("authority-drop"), {"giving_up": ticked}, follow=True)
        told = re.search("Cut off would be: ([^.]*)\\.", answer.content.decode())
        assert told is not None and told[1] == ", ".join(sorted({edge.name, "inside"} - {*ticked}))
    assert rotation.progress().exchanging and rotation.lost() == frozenset()
    answer = owner.post(reverse("authority-drop"), {"giving_up": [edge.name, "inside"]}, follow=True)
    page = answer.content.decode()
    assert "To be enrolled anew:" in page and pill(page, "inside") == "of a former one"
    change = Change.objects.filter(kind="authority").latest("pk")
    assert change.after["cut off"] == sorted([edge.name, "inside"]) and change.change_set.address
    # Everywhere else they are shown as what they are, too.
    assert "believed no longer" in owner.get(reverse("nodes-edit", args=[inside.pk])).content.decode()
    assert "Enrol it anew" in owner.get(reverse("overview")).content.decode()
    assert any(each.subject == "node inside" and "Enrol it anew" in each.words for each in examine())
    enrolled(inside)
    assert rotation.lost() == {edge.name}
    assert "believed no longer" not in owner.get(reverse("nodes-edit", args=[inside.pk])).content.decode()


def test_a_machine_whose_certificate_has_ended_cannot_come_back(owner: Client, edge: Node) -> None:
    enrolled(edge)
    Enrolment.objects.update(certificate_ends=timezone.now() - timedelta(minutes=1))
    assert pill(owner.get(reverse("authority")).content.decode(), edge.name) == "ended"
    assert "believed no longer" in owner.get(reverse("nodes-edit", args=[edge.pk])).content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator", "security"])
def test_the_authority_is_exchanged_by_owners(as_role: Callable[[str], Client], edge: Node, role: str) -> None:
    enrolled(edge)
    client = as_role(role)
    assert "Exchange the authority" not in client.get(reverse("authority")).content.decode()
    for name in ("authority-exchange", "authority-drop"):
        assert client.post(reverse(name)).status_code == 403
