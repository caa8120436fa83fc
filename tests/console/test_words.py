"""Whether every word that a page says itself can be translated: asked in a language that puts brackets around them.

What then stands outside of brackets must be data: what somebody has named, or code, or told in English by a node.
"""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import CharField, JSONField, Model, TextField
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils.translation import trans_real

from console.nouns import url_of
from gateway.core.reasons import BY_CODE
from gateway.models import Change, ChangeSet, Port, PortType
from tests.console.test_access import ACTIONS, READ_ALONE, address, names, operator_of

PSEUDO = "eo"  # a language that Django knows of, so that it may be chosen, in place of which stands the one made here
BEGIN, END = "⟦", "⟧"
SPOKEN = {
    "title",
    "aria-label",
    "placeholder",
    "alt",
    "data-label",
    "data-due",
    "data-cancelled",
    "data-failed",
}  # attributes that people read or hear
# Elements whose text is data: code, times as ISO writes them, what is typed, and names that are made of none.
DATA = {"code", "pre", "textarea", "time", "script", "style", "svg:style"}
VOID = {"input", "img", "br", "meta", "link", "hr", "path", "rect"}
# Names that are the same in every language.
NAMES = {"Postern", "SHA-256", "SHA-1", "UTC", "TLS", "URI", "Pseudo", *(name for _, name in settings.LANGUAGES)}
CODE = re.compile(
    r"""[A-Z]{3,7}\b(?=$|\s/)  # a method
    | \b[a-z]+(?:_[a-z]+)+\b  # a reason, a field of the file
    | …?[0-9a-f]{8,}  # a fingerprint
    | \b\w+…  # a name for which there was no room""",
    re.VERBOSE,
)
# Said by a parser, in English whatever the reader's language is.
SAID = {"write it like https://host:port/path or reverse://REGISTRATION-PORT/path"}
# What is typed into a field, as its placeholder shows it.
EXAMPLES = {"-----BEGIN", "/orders", "10.0.0.0/8", "2001:db8::/32", "edge.example:8444", "dns:gateway.example",
            "O = Partner One", "C = DE", "http://pki.partner.example/ca.crl 6h", "orders:submit"}  # fmt: skip


class Pseudo:
    """As a catalog of translations, in which every message is itself in brackets."""

    def __init__(self, known: Callable[[str], bool] = lambda message: True) -> None:
        self._known = known

    def to_language(self) -> str:
        return PSEUDO

    def gettext(self, message: str) -> str:
        if not self._known(message):
            return message
        return f"{BEGIN}{message}{END}"

    def ngettext(self, singular: str, plural: str, number: int) -> str:
        told = singular if number == 1 else plural
        return f"{BEGIN}{told}{END}" if self._known(singular) else told


class Words(HTMLParser):
    """Texts of a page that people read, one by one, but for those that are data."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open: list[tuple[str, bool]] = []  # element, and whether it is data
        self._depth = 0  # of brackets, for a message may have elements in it

    @property
    def _is_data(self) -> bool:
        return bool(self._open) and self._open[-1][1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        said = (tag != "html" and given.get("lang") == "en") or given.get("translate") == "no"
        data = self._is_data or said or tag in DATA or "mono" in (given.get("class") or "").split()
        if not self._is_data and not said:
            self.found += [(f"{tag} {name}", value) for name, value in attrs if name in SPOKEN and value]
            if tag == "input" and given.get("type") in ("submit", "button"):
                self.found.append(("button", given.get("value") or ""))
        if tag not in VOID:
            self._open.append((tag, data))

    def handle_endtag(self, tag: str) -> None:
        while self._open:
            name, _ = self._open.pop()
            if name == tag:
                break

    def handle_data(self, data: str) -> None:
        left, self._depth = outside(data, self._depth)
        if not self._is_data and left.strip():
            self.found.append((self._open[-1][0] if self._open else "", left.strip()))


def outside(text: str, depth: int = 0) -> tuple[str, int]:
    """What stands in no bracket, however deep; and how deep it ends."""
    found = []
    for letter in text:
        depth += letter == BEGIN
        if not depth:
            found.append(letter)
        depth -= letter == END
    return "".join(found), depth


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield from [value, *value.split("\n")]
        case dict():
            for key, each in value.items():
                yield from [str(key), *strings(each)]
        case list() | tuple():
            for each in value:
                yield from strings(each)


def stored() -> set[str]:
    """Every text in the database that somebody may have typed."""
    found: set[str] = set()
    for model in apps.get_models():
        texts = (each for each in model._meta.concrete_fields if isinstance(each, CharField | TextField | JSONField))
        fields = [each.name for each in texts if not each.choices]  # a code that is shown has words of its own
        for row in model._default_manager.values_list(*fields) if fields else []:
            found |= {text.strip() for text in strings(row) if len(text.strip()) > 1}
    return found


def unwrapped(answer: HttpResponse, data: set[str]) -> list[str]:
    """What a page says that is in no bracket and is no data."""
    page = Words()
    page.feed(answer.content.decode())
    found = []
    known = sorted({*data, *NAMES, *EXAMPLES, *SAID, *BY_CODE, *PortType.values}, key=len, reverse=True)
    for where, text in page.found:
        left = CODE.sub(" ", outside(text)[0])
        if not re.search(r"[^\W\d_]{2}", left):
            continue
        for each in known:
            left = left.replace(each, " ")
        if re.search(r"[^\W\d_]{2}", left):
            found.append(f"{where}: {text}")
    return list(dict.fromkeys(found))


def gathered(message: str) -> bool:
    """Whether translators, or Django's, have been told of a message: what is translated to German has been."""
    catalog = trans_real.DjangoTranslation("de")._catalog  # type: ignore[attr-defined]
    return message in catalog or (message, 0) in catalog


@pytest.fixture
def pseudo(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.LANGUAGES = [*settings.LANGUAGES, (PSEUDO, "Pseudo")]
    monkeypatch.setitem(trans_real._translations, PSEUDO, Pseudo(gathered))


@pytest.fixture
def reader(pseudo: None, as_role: Callable[[str], Client]) -> Client:
    client = as_role("owner")
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = PSEUDO
    return client


# Answer with something else than a page.
NO_PAGES = {"choices", "certificates-pem", "keystores-pem", "keystores-request", "imports-refused"}


def addresses(world: dict[str, Model], operator: int) -> dict[str, str]:
    found = {name: address(name, world, operator) for name in names() if name not in NO_PAGES}
    found |= {f"{row.type} port": url_of(row) or "" for row in Port.objects.all()}
    found |= {f"{kind} port, new": reverse("ports-add", args=[kind]) for kind in ("regular", "internal")}
    found |= {
        "overview, a way": "/?way=1&certificate=alice&path=/orders",
        "certificates, whom": f"{url_of(world['certificates'])}?access=1",
        "services, who": f"{url_of(world['services'])}?access=1",
        "nothing": "/no/such/page",
    }
    return found


def test_every_word_of_every_page_can_be_translated(reader: Client, world: dict[str, Model]) -> None:
    found = {}
    for name, url in addresses(world, operator_of(reader)).items():
        answer = reader.get(url)
        assert answer["Content-Language"] == PSEUDO, name
        if words := unwrapped(answer, stored()):
            found[name] = words
    told = "\n".join(f"{name}: {each}" for name, texts in found.items() for each in texts)
    assert not found, told


def test_every_word_on_a_form_that_is_refused_can_be_translated(reader: Client, world: dict[str, Model]) -> None:
    """Posted is nothing that any form would take, and what the actions do by themselves: its messages are read too."""
    found = {}
    for name in sorted({*names(), *ACTIONS} - {"logout", "account-language"} - NO_PAGES):
        if name in READ_ALONE or name.endswith("-list"):
            continue
        sid = transaction.savepoint()
        answer = reader.post(address(name, world, operator_of(reader)), {"name": ""}, follow=True)
        if words := unwrapped(answer, stored()):
            found[name] = words
        transaction.savepoint_rollback(sid)
    told = "\n".join(f"{name}: {each}" for name, texts in found.items() for each in texts)
    assert not found, told


def test_what_is_recorded_is_recorded_in_english(reader: Client, world: dict[str, Model]) -> None:
    """The audit log says the same whoever acts, and whoever reads it."""
    before = ChangeSet.objects.count()
    for name in sorted({*names(), *ACTIONS} - {"logout", "account-language"} - READ_ALONE):
        if not name.endswith(("-list", "-edit")):
            sid = transaction.savepoint()
            reader.post(
                address(name, world, operator_of(reader)), {"name": "new-one", "would_change": "", "step": "all"}
            )
            texts = [
                *ChangeSet.objects.values_list("message", flat=True),
                *Change.objects.values_list("after", flat=True),
            ]
            before = max(before, ChangeSet.objects.count())
            assert not [each for each in texts if BEGIN in str(each)], name
            transaction.savepoint_rollback(sid)
    assert before > ChangeSet.objects.count(), "some of it was done"


def test_a_program_is_answered_in_english(reader: Client, world: dict[str, Model]) -> None:
    answer = reader.get("/api/v1/users/")
    assert BEGIN not in answer.content.decode()
    assert "Content-Language" not in answer


def test_the_language_is_the_readers_choice_else_the_browsers(pseudo: None, as_role: Callable[[str], Client]) -> None:
    client = as_role("viewer")
    assert '<html lang="en">' in client.get("/account/").content.decode()
    asked = client.get("/account/", headers={"Accept-Language": f"{PSEUDO}, en;q=0.5"})
    assert f'<html lang="{PSEUDO}">' in asked.content.decode()
    assert "Accept-Language" in asked["Vary"]
    client.post("/account/language/", {"language": "en"})
    asked = client.get("/account/", headers={"Accept-Language": f"{PSEUDO}, en;q=0.5"})
    assert '<html lang="en">' in asked.content.decode()
    client.post("/account/language/", {"language": ""})
    asked = client.get("/account/", headers={"Accept-Language": f"{PSEUDO}, en;q=0.5"})
    assert f'<html lang="{PSEUDO}">' in asked.content.decode()


def test_a_language_that_there_is_not_is_not_chosen(client: Client, db: None, owner: Client) -> None:
    owner.post("/account/language/", {"language": "tlh"})
    assert not owner.cookies[settings.LANGUAGE_COOKIE_NAME].value


def test_pages_come_in_german_to_who_asks_for_it(client: Client, db: None, owner: Client) -> None:
    told = client.get("/login/", headers={"Accept-Language": "de-CH, de;q=0.8, en;q=0.5"}).content.decode()
    assert '<html lang="de">' in told
    assert "Benutzername" in told and "Anmelden" in told
    owner.post("/account/language/", {"language": "de"})
    page = owner.get("/account/").content.decode()
    assert '<option value="de" lang="de" selected>Deutsch</option>' in page
    assert "Ihre Sitzungen" in page
