"""Second factors: taken on, asked for, used once, taken away."""

import base64
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from console import totp
from console.models import Authenticator, Operator, Role
from console.rescue import rescue
from gateway.models import Change, ChangeSet
from identity.models import sealing
from identity.models.sealing import reseal_all
from tests.console.conftest import PASSWORD

# RFC 6238, appendix B (SHA-1), cut to six digits.
SECRET = b"12345678901234567890"
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("now", "code"), VECTORS)
def test_codes_are_those_of_the_rfc(now: int, code: str) -> None:
    assert totp.code(SECRET, now // 30) == code
    assert totp.step_of(SECRET, code, now=now, after=0) == now // 30


@pytest.mark.parametrize(
    ("late", "after", "taken"),
    [
        pytest.param(0, 0, True, id="now"),
        pytest.param(30, 0, True, id="one-step-late"),
        pytest.param(-30, 0, True, id="one-step-early"),
        pytest.param(60, 0, False, id="two-steps-late"),
        pytest.param(-60, 0, False, id="two-steps-early"),
        pytest.param(0, 37037036, False, id="used-already"),
        pytest.param(0, 37037037, False, id="older-than-the-last"),
    ],
)
def test_when_a_code_is_taken(late: int, after: int, taken: bool) -> None:
    now = 1111111109
    code = totp.code(SECRET, now // 30)
    assert (totp.step_of(SECRET, code, now=now + late, after=after) is not None) is taken


def text(answer: Any) -> str:
    return answer.content.decode()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(30)`: thirty seconds later, for codes and for sessions."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return later


class App:
    """An authenticator app that has read the page's key."""

    def __init__(self, page: str) -> None:
        found = re.search(r'<code class="secret">([A-Z2-7 ]+)</code>', page)
        assert found is not None
        key = found[1].replace(" ", "")
        self.secret = base64.b32decode(key + "=" * (-len(key) % 8))

    @property
    def code(self) -> str:
        return totp.code(self.secret, int(time.time()) // 30)


@pytest.fixture
def olivia(db: None) -> Operator:
    return Operator.objects.create_operator("olivia", PASSWORD, Role.OWNER)


def begin(password: str = PASSWORD, **more: str) -> tuple[Client, Any]:
    client = Client(**more)
    return client, client.post("/login/", {"username": "olivia", "password": password})


@pytest.fixture
def app(olivia: Operator, clock: Any) -> tuple[App, list[str]]:
    """Set up as an operator does it; with the recovery codes that came with it."""
    client, _ = begin()
    app = App(text(client.get("/account/authenticator/")))
    answer = client.post("/account/authenticator/", {"code": app.code})
    codes = re.findall(r"<code>([a-z0-9-]{29})</code>", text(answer))
    assert len(codes) == 10
    clock(60)
    return app, codes


def test_an_app_is_set_up_once_it_has_shown_a_code(olivia: Operator, clock: Any) -> None:
    client, _ = begin()
    page = text(client.get("/account/authenticator/"))
    app = App(page)
    assert "<svg" in page and "style=" not in page
    refused = client.post("/account/authenticator/", {"code": "000000"})
    assert refused.status_code == 422
    assert App(text(refused)).secret == app.secret, "the same key, so that the app need not read another"
    assert not Authenticator.objects.exists()
    assert client.post("/account/authenticator/", {"code": app.code}).status_code == 200
    row = Authenticator.objects.get()
    assert app.secret not in bytes(row.secret)
    assert sealing.open_sealed(row, "secret") == app.secret
    assert Change.objects.filter(kind="operators", name="olivia").latest("id").after["recovery_codes"] == "made anew"


def test_a_password_alone_is_half_a_login(app: tuple[App, list[str]]) -> None:
    client, answer = begin()
    assert (answer.status_code, answer["Location"]) == (302, "/login/second/")
    assert client.get("/").status_code == 302, "nobody is logged in yet"
    assert client.get("/confirm/").status_code == 302
    answer = client.post("/login/second/", {"code": f" {app[0].code[:3]} {app[0].code[3:]}"})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    change = Change.objects.latest("id")
    assert (change.action, change.after) == ("logged_in", {"name": "olivia", "by": "password and authenticator app"})


def test_a_code_is_good_once(app: tuple[App, list[str]]) -> None:
    code = app[0].code
    for expected in (302, 422):
        client, _ = begin()
        assert client.post("/login/second/", {"code": code}).status_code == expected


def test_a_recovery_code_is_good_once_however_it_is_typed(app: tuple[App, list[str]]) -> None:
    for typed, expected in ((app[1][0].upper(), 302), (app[1][0].replace("-", " "), 422), (app[1][1], 302)):
        client, _ = begin()
        assert client.post("/login/second/", {"code": typed}).status_code == expected
    assert "8 left" in text(client.get("/account/"))


def test_half_a_login_ends_by_itself(app: tuple[App, list[str]], clock: Any) -> None:
    client, _ = begin()
    clock(301)
    answer = client.post("/login/second/", {"code": app[0].code})
    assert (answer.status_code, answer["Location"]) == (302, "/login/")
    assert client.get("/").status_code == 302


def test_guessing_codes_comes_to_an_end(app: tuple[App, list[str]], settings: Any) -> None:
    client, _ = begin()
    for _ in range(settings.CONSOLE_LOGIN_FAILURES):
        client.post("/login/second/", {"code": "000000"})
    answer = client.post("/login/second/", {"code": app[0].code})
    assert answer.status_code == 422
    assert "Too many wrong passwords" in text(answer)
    assert "Too many" in text(begin()[1])


def test_the_step_is_not_reached_without_the_password(app: tuple[App, list[str]]) -> None:
    client, answer = begin("a wrong password")
    assert answer.status_code == 422
    assert client.post("/login/second/", {"code": app[0].code})["Location"] == "/login/"


def test_an_account_that_was_disabled_meanwhile_gets_no_further(app: tuple[App, list[str]]) -> None:
    client, _ = begin()
    Operator.objects.update(is_active=False)
    assert client.post("/login/second/", {"code": app[0].code})["Location"] == "/login/"


def test_a_factor_is_removed_with_its_recovery_codes(app: tuple[App, list[str]], olivia: Operator) -> None:
    client, _ = begin()
    client.post("/login/second/", {"code": app[0].code})
    client.post("/account/authenticator/remove/")
    assert not olivia.has_second_factor
    assert not olivia.recovery_codes.exists()
    assert begin()[1]["Location"] == "/"


def test_new_recovery_codes_replace_the_former(app: tuple[App, list[str]]) -> None:
    client, _ = begin()
    client.post("/login/second/", {"code": app[0].code})
    page = text(client.post("/account/recovery-codes/"))
    fresh = re.findall(r"<code>([a-z0-9-]{29})</code>", page)
    assert len(fresh) == 10 and not set(fresh) & set(app[1])
    for typed, expected in ((app[1][0], 422), (fresh[0], 302)):
        client, _ = begin()
        assert client.post("/login/second/", {"code": typed}).status_code == expected


def test_no_secret_of_a_factor_is_recorded(app: tuple[App, list[str]]) -> None:
    told = str(list(Change.objects.values())) + str(list(ChangeSet.objects.values()))
    for secret in (totp.text_of(app[0].secret).replace(" ", ""), *app[1], PASSWORD):
        assert secret not in told


def test_the_key_of_an_app_follows_the_master_key(app: tuple[App, list[str]], settings: Any) -> None:
    settings.POSTERN_MASTER_KEY_PREVIOUS = [settings.POSTERN_MASTER_KEY]
    settings.POSTERN_MASTER_KEY = b"n" * 32
    reseal_all()
    settings.POSTERN_MASTER_KEY_PREVIOUS = []
    client, _ = begin()
    assert client.post("/login/second/", {"code": app[0].code}).status_code == 302


# --- where one is required ---


@pytest.fixture
def required(settings: Any) -> None:
    settings.CONSOLE_SECOND_FACTOR = "required"


def test_who_has_none_sets_one_up_first(required: None, olivia: Operator, clock: Any) -> None:
    client, _ = begin()
    for path in ("/", "/users/", "/operators/add/"):
        assert client.get(path)["Location"] == "/account/"
    assert "This installation requires a second factor" in text(client.get("/account/"))
    app = App(text(client.get("/account/authenticator/")))
    client.post("/account/authenticator/", {"code": app.code})
    assert client.get("/").status_code == 200


def test_the_last_one_stays(app: tuple[App, list[str]], required: None, olivia: Operator) -> None:
    client, _ = begin()
    client.post("/login/second/", {"code": app[0].code})
    answer = client.post("/account/authenticator/remove/", follow=True)
    assert "This is your last second factor, and this installation requires one." in text(answer)
    assert olivia.has_second_factor
    assert olivia.recovery_codes.count() == 10


def test_an_owner_helps_who_has_lost_them(app: tuple[App, list[str]], olivia: Operator, as_role: Any) -> None:
    client, _ = begin()
    client.post("/login/second/", {"code": app[0].code})
    owner = as_role("owner")
    assert "Second factor: authenticator app" in text(owner.get(f"/operators/{olivia.pk}/"))
    owner.post(f"/operators/{olivia.pk}/remove-factors/")
    assert not olivia.has_second_factor
    assert client.get("/").status_code == 302, "their sessions are over too"
    change = Change.objects.filter(kind="operators", name="olivia").latest("id")
    assert (change.before["second_factors"], change.after.get("second_factors")) == (["authenticator app"], None)


def test_who_is_rescued_needs_no_factor(app: tuple[App, list[str]], olivia: Operator) -> None:
    password = rescue(olivia, "rescue")
    assert begin(password)[1]["Location"] == "/"
