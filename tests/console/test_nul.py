"""What no database can hold, where a page is asked for with it."""

import pytest
from django.db.models import Model
from django.test import Client

from console.urls import urlpatterns

PLAIN = sorted(
    f"/{each.pattern}"
    for each in urlpatterns
    if "<" not in str(each.pattern) and str(each.pattern).endswith("/") and not str(each.pattern).startswith("api/")
)
FIELDS = ["q", "name", "show", "sort", "port", "user", "path", "certificate", "reason", "kind", "actor", "renews"]


@pytest.mark.parametrize("address", PLAIN)
def test_a_nul_in_the_address_fails_no_page(address: str, owner: Client, world: dict[str, Model]) -> None:
    for field in FIELDS:
        assert owner.get(address, {field: "a\0b"}).status_code < 500, field


def test_nor_does_one_in_what_is_sent(owner: Client, world: dict[str, Model]) -> None:
    answer = owner.post("/invoke/", {"port": "ext\0", "method": "GET", "path": "/", "credential": "none"})
    assert answer.status_code == 400
    assert b"NUL" in answer.content
