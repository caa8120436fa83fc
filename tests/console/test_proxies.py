"""Behind a proxy: from where an operator comes is told by whoever is believed in that, and by nobody else."""

import pytest
from django.test import Client

from console.models import Operator, Role
from gateway.core.addresses import parse_network
from gateway.models import ChangeSet
from tests.console.conftest import PASSWORD

PROXY, OPERATOR, GUESSER = "127.0.0.1", "192.0.2.9", "198.51.100.66"


@pytest.fixture
def olivia(db: None, settings) -> Operator:
    settings.CONSOLE_TRUSTED_PROXIES = (parse_network(PROXY), parse_network("10.0.0.0/8"))
    return Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)


def log_in(forwarded_for: str | None, peer: str = PROXY, password: str = PASSWORD):
    headers = {} if forwarded_for is None else {"X-Forwarded-For": forwarded_for}
    return Client(REMOTE_ADDR=peer, headers=headers).post("/login/", {"username": "olivia", "password": password})


@pytest.mark.parametrize(
    ("told", "peer", "from_where"),
    [
        pytest.param(OPERATOR, PROXY, OPERATOR, id="as-the-proxy-tells"),
        pytest.param(f"{OPERATOR}, 10.1.2.3", PROXY, OPERATOR, id="through-two"),
        pytest.param(f"203.0.113.1, {OPERATOR}", PROXY, OPERATOR, id="what-the-caller-said-himself-counts-for-nothing"),
        pytest.param(OPERATOR, "192.0.2.77", "192.0.2.77", id="past-the-proxy"),
        pytest.param(None, PROXY, PROXY, id="a-proxy-that-tells-nothing"),
    ],
)
def test_from_where_a_login_came(olivia: Operator, told: str | None, peer: str, from_where: str) -> None:
    assert log_in(told, peer).status_code == 302
    assert ChangeSet.objects.latest("id").address == from_where


def test_who_is_believed_in_nothing_changes_nothing(olivia: Operator, settings) -> None:
    settings.CONSOLE_TRUSTED_PROXIES = ()
    assert log_in(OPERATOR).status_code == 302
    assert ChangeSet.objects.latest("id").address == PROXY


def test_what_is_no_address_is_refused(olivia: Operator) -> None:
    assert log_in("unknown").status_code == 400


def test_whoever_guesses_behind_the_same_proxy_shuts_out_himself_alone(olivia: Operator, settings) -> None:
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        log_in(GUESSER, password="no")
    assert "Too many wrong passwords" in log_in(GUESSER).content.decode()
    assert log_in(OPERATOR).status_code == 302
