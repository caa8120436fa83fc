"""Sessions: listed, ended, over by themselves; and being asked again inside one."""

import re
import time
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.test import Client
from django.utils import timezone

from console.models import LoginFailure, Operator, Role, Session
from console.sessions import SessionStore
from gateway.models import Change
from tests.console.conftest import PASSWORD


@pytest.fixture
def olivia(db: None) -> Operator:
    return Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)


def logged_in(address: str = "127.0.0.1", agent: str = "Firefox") -> Client:
    client = Client(REMOTE_ADDR=address, HTTP_USER_AGENT=agent)
    answer = client.post("/login/", {"username": "olivia", "password": PASSWORD})
    assert answer.status_code == 302
    return client


def text(answer: Any) -> str:
    return answer.content.decode()


def test_they_are_listed_without_what_opens_them(olivia: Operator) -> None:
    here, there = logged_in(), logged_in("192.0.2.7", "Chromium <script>")
    page = text(here.get("/account/"))
    assert "192.0.2.7" in page
    assert "Chromium &lt;script&gt;" in page
    assert page.count("this one") == 1
    for client in (here, there):
        assert str(client.session.session_key) not in page


def test_one_is_ended(olivia: Operator) -> None:
    here, there = logged_in(), logged_in("192.0.2.7")
    (mark,) = re.findall(r'name="mark" value="([0-9a-f]{40})"', text(here.get("/account/")))
    assert "1 session ended." in text(here.post("/account/sessions/end/", {"mark": mark}, follow=True))
    assert there.get("/").status_code == 302
    assert here.get("/").status_code == 200
    assert Change.objects.latest("id").after["sessions_ended"] == 1


def test_all_others_are_ended(olivia: Operator) -> None:
    here, there, elsewhere = logged_in(), logged_in(), logged_in()
    here.post("/account/sessions/end/")
    assert [client.get("/").status_code for client in (here, there, elsewhere)] == [200, 302, 302]


def test_nobody_ends_anothers(olivia: Operator, as_role: Any) -> None:
    there = logged_in()
    (shown,) = re.findall(r'name="mark" value="([0-9a-f]{40})"', text(logged_in().get("/account/")))
    as_role("viewer").post("/account/sessions/end/", {"mark": shown})
    assert there.get("/").status_code == 200


def test_an_owner_ends_them(olivia: Operator, as_role: Any) -> None:
    there, owner = logged_in("192.0.2.7"), as_role("owner")
    assert "192.0.2.7" in text(owner.get(f"/operators/{olivia.pk}/"))
    owner.post(f"/operators/{olivia.pk}/end-sessions/")
    assert there.get("/").status_code == 302


def test_one_ends_after_its_time_however_it_is_used(olivia: Operator, monkeypatch: Any, settings: Any) -> None:
    client = logged_in()
    later = time.time() + settings.SESSION_COOKIE_AGE + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.get("/")["Location"].startswith("/login/")


def test_one_ends_that_is_not_used(olivia: Operator, settings: Any) -> None:
    client = logged_in()
    Session.objects.update(seen_at=timezone.now() - timedelta(seconds=settings.CONSOLE_IDLE_SECONDS - 60))
    assert client.get("/").status_code == 200
    Session.objects.update(seen_at=timezone.now() - timedelta(seconds=settings.CONSOLE_IDLE_SECONDS + 60))
    assert client.get("/")["Location"].startswith("/login/")
    assert not Session.objects.filter(operator=olivia).exists()


def test_using_one_is_noted_and_not_at_every_page(olivia: Operator, django_assert_num_queries: Any) -> None:
    client = logged_in()
    ago = timezone.now() - timedelta(minutes=5)
    Session.objects.update(seen_at=ago)
    client.get("/account/")
    noted = Session.objects.get().seen_at
    assert noted > ago
    client.get("/account/")
    assert Session.objects.get().seen_at == noted


def test_logging_in_makes_another_session(olivia: Operator) -> None:
    client = Client()
    client.get("/login/passkey/")
    before = str(client.session.session_key)
    assert SessionStore().exists(before)
    client.post("/login/", {"username": "olivia", "password": PASSWORD})
    assert client.session.session_key != before
    assert not SessionStore().exists(before)


def test_a_key_that_somebody_else_chose_is_not_taken_on(olivia: Operator) -> None:
    client = Client()
    client.cookies["sessionid"] = chosen = "a" * 32
    client.get("/login/passkey/")
    assert client.cookies["sessionid"].value != chosen
    client.post("/login/", {"username": "olivia", "password": PASSWORD})
    assert client.cookies["sessionid"].value != chosen
    assert not SessionStore().exists(chosen)


# --- who was here besides is told ---


def test_the_login_before_is_told(olivia: Operator) -> None:
    assert "You logged in last at" not in text(logged_in("192.0.2.7").get("/"))
    assert "UTC from 192.0.2.7." in text(logged_in("192.0.2.8").get("/"))


def test_what_was_done_with_an_account_is_on_its_page(olivia: Operator, as_role: Any) -> None:
    victor = Operator.objects.create_operator("victor", PASSWORD, Role.VIEWER)
    typed = {"username": "victor", "role": "security", "is_active": "on"}
    as_role("owner").post(f"/operators/{victor.pk}/", typed, REMOTE_ADDR="192.0.2.9")
    client = Client()
    client.force_login(victor)
    page = text(client.get("/account/"))
    assert "operator victor changed" in page and "192.0.2.9" in page
    assert "olivia-owner" in page
    logged_in()
    assert "operator olivia logged in" not in text(client.get("/account/")), "of others nothing"


# --- what is stored opens nothing ---


def test_who_reads_the_database_takes_over_no_login(olivia: Operator) -> None:
    client = logged_in()
    key, row = client.cookies["sessionid"].value, Session.objects.get()
    assert key not in (row.pk, row.session_data)
    thief = Client()
    thief.cookies["sessionid"] = row.pk
    assert thief.get("/").status_code == 302
    assert client.get("/").status_code == 200


def test_logins_of_before_go_on_after_the_migration(olivia: Operator) -> None:
    client = logged_in()
    key = client.cookies["sessionid"].value
    Session.objects.update(session_key=key)  # as they were stored
    assert client.get("/").status_code == 302
    client.cookies["sessionid"] = key
    import_module("console.migrations.0009_session_digests").to_digests(apps, None)
    assert client.get("/").status_code == 200
    import_module("console.migrations.0009_session_digests").end_all(apps, None)
    assert client.get("/").status_code == 302


def test_sessions_of_nobody_are_gone_soon(db: None) -> None:
    Client().get("/login/passkey/")
    assert Session.objects.get().expire_date < timezone.now() + timedelta(seconds=301)
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    Client().get("/login/passkey/")
    assert Session.objects.count() == 1


def test_a_page_of_the_login_takes_no_session(db: None) -> None:
    Client().get("/login/")
    assert not Session.objects.exists()


# --- being asked again ---


def stale(client: Client, seconds: float) -> None:
    session = client.session
    session["proved_at"] = time.time() - seconds
    session.save()


def test_a_password_lets_on_for_a_while(olivia: Operator, settings: Any) -> None:
    client = logged_in()
    assert client.get("/operators/add/").status_code == 200, "who has just logged in is not asked"
    stale(client, settings.CONSOLE_CONFIRM_SECONDS + 1)
    answer = client.get("/operators/add/")
    assert answer["Location"] == "/confirm/?next=%2Foperators%2Fadd%2F"
    wrong = client.post("/confirm/", {"password": "no", "next": "/operators/add/"})
    assert (wrong.status_code, "This is not your password." in text(wrong)) == (422, True)
    assert client.get("/operators/add/").status_code == 302
    right = client.post("/confirm/", {"password": PASSWORD, "next": "/operators/add/"})
    assert right["Location"] == "/operators/add/"
    assert client.get("/operators/add/").status_code == 200


def test_a_form_may_be_filled_in_slowly(olivia: Operator, settings: Any) -> None:
    client = logged_in()
    stale(client, settings.CONSOLE_CONFIRM_SECONDS * 2)
    assert client.post("/operators/add/", {"username": "victor"}).status_code == 422
    stale(client, settings.CONSOLE_CONFIRM_SECONDS * 3 + 1)
    answer = client.post("/operators/add/", {"username": "victor"}, HTTP_REFERER="http://testserver/operators/add/?x")
    assert answer["Location"] == "/confirm/?next=%2Foperators%2Fadd%2F"


def test_guessing_comes_to_an_end_here_too(olivia: Operator, settings: Any) -> None:
    client = logged_in()
    stale(client, 10**6)
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        client.post("/confirm/", {"password": "no"})
    assert "Too many wrong passwords" in text(client.post("/confirm/", {"password": PASSWORD}))


def test_from_there_nobody_is_led_out_of_the_house(olivia: Operator) -> None:
    client = logged_in()
    assert client.post("/confirm/", {"password": PASSWORD, "next": "https://evil.example/"})["Location"] == "/"
    stale(client, 10**6)
    answer = client.post("/operators/add/", {}, HTTP_REFERER="https://evil.example/operators/")
    assert answer["Location"] == "/confirm/?next=%2F"


# --- nobody locks anybody else out ---


def guess(times: int, address: str, username: str = "olivia") -> None:
    for _ in range(times):
        Client(REMOTE_ADDR=address).post("/login/", {"username": username, "password": "no"})


def test_guesses_from_elsewhere_lock_nobody_out(olivia: Operator, settings: Any) -> None:
    guess(settings.CONSOLE_LOGIN_FAILURES * 2, "192.0.2.7")
    logged_in("127.0.0.1")


def test_guesses_from_everywhere_do_not_lock_out_where_one_was_before(olivia: Operator, settings: Any) -> None:
    settings.CONSOLE_LOGIN_FAILURES = 2
    logged_in("198.51.100.1")
    for number in range(40):
        guess(1, f"192.0.2.{number}")
    strange = Client(REMOTE_ADDR="203.0.113.9").post("/login/", {"username": "olivia", "password": PASSWORD})
    assert "Too many wrong passwords" in text(strange), "an account is not guessed at from everywhere without end"
    change = Change.objects.filter(change_set__actor="console").get()
    assert "refused_where_unknown_until" in change.after
    logged_in("198.51.100.1")


def test_a_whole_network_counts_as_one_address(olivia: Operator, settings: Any) -> None:
    for number in range(settings.CONSOLE_LOGIN_FAILURES):
        guess(1, f"2001:db8:1:2::{number}")
    answer = Client(REMOTE_ADDR="2001:db8:1:2:ffff::1").post("/login/", {"username": "olivia", "password": PASSWORD})
    assert "Too many wrong passwords" in text(answer)
    logged_in("2001:db8:1:3::1")


def test_what_is_counted_is_bounded(db: None, settings: Any) -> None:
    """Beyond its own limit an address adds no account to the table."""
    for number in range(settings.CONSOLE_LOGIN_FAILURES * 5 + 20):
        guess(1, "192.0.2.7", f"guess{number}")
    assert LoginFailure.objects.count() <= 2 * settings.CONSOLE_LOGIN_FAILURES * 5 + 1
