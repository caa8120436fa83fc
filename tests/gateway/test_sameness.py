"""The mark by which a courier knows again what a node has in force: the same for the same, and for nothing else."""

import pytest

from gateway.audit import change_set
from gateway.compile import Compiler, document_of
from gateway.sameness import mark
from tests.factories import CertificateFactory, RegularPortFactory

pytestmark = pytest.mark.django_db


def test_two_couriers_make_the_same_mark_of_the_same_configuration() -> None:
    node = RegularPortFactory().node.name
    assert mark(document_of(node)) == mark(Compiler().document_of(node)) != ""


def test_any_change_makes_another_and_so_does_what_hangs_on_settings() -> None:
    node = RegularPortFactory().node.name
    document = document_of(node)
    first = mark(document)
    certificate = CertificateFactory()
    assert (second := mark(document_of(node))) != first
    with change_set("tests", "gone again"):
        certificate.delete()
    assert mark(document_of(node)) not in (first, second), "the rows are as before, and the history is not"
    assert mark(document) == first
    assert mark(document | {"token": {"issuer": "another"}}) != first


def test_nothing_is_known_again_before_the_first_change() -> None:
    assert mark({"revision": 0}) == ""
