"""Keys and passwords that are planted are looked for in all that the console, its commands and its logs give out."""

import base64
import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client

from console import factors, operators, tokens, totp
from console.api.urls import OPERATIONS
from console.models import CONFIRMED, PERMISSIONS, Operator, Role, SavedTest
from gateway import enrolments
from gateway.audit import change_set
from gateway.models import ChangeSet, Node
from gateway.topology.entries import SECTIONS, stored
from identity.core import issuing
from identity.core.issuing import KeyKind
from identity.models import Keystore
from tests import factories
from tests.api.conftest import Caller, caller_of
from tests.console.crawling import pages
from tests.minting import Minted, mint

__all__ = ["caller_of"]
pytestmark = pytest.mark.django_db
PHRASE, PASSWORD = "the phrase of a key", "correct horse battery staple"
OPERATORS_PASSWORD = "what olga alone knows"


def traces(minted: Minted) -> set[str]:
    """A private key, however it is written: its number in hex and in decimal, and the middle of its PEM and DER."""
    number = minted.key.private_numbers().private_value
    der = minted.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    secret = number.to_bytes(32)
    found = {f"{number:x}", str(number)}
    found |= {encode(secret)[:20].decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    return found | {line for line in minted.key_pem.splitlines()[1:-1] if len(line) > 20} | {der.hex()[70:120]}


def of_operators(owner: Client) -> set[str]:
    """What operators get in by: a password, an app, recovery codes, a token, a one-time password, a session's key."""
    operator = Operator.objects.create_operator("olga", OPERATORS_PASSWORD, Role.OWNER)
    seed = totp.new_secret()
    factors.add_authenticator(operator, seed, 1, "tests", None)
    codes = factors.new_recovery_codes(operator, "tests", None)
    _, token = tokens.create(operator, "a-program", ["view"], timedelta(days=1), None)
    once = operators.create("victor", Role.VIEWER, "tests")
    app = base64.b32encode(seed).decode().rstrip("=")
    return {OPERATORS_PASSWORD, app, seed.hex(), token, once, str(owner.session.session_key), *codes}


def of_a_machine(node: Node) -> set[str]:
    """What a bundle has for whoever enrols with it."""
    key = enrolments.offer(node, "tests", None, address="127.0.0.1:9").key
    return {key.hex(), base64.b64encode(key).decode()[:40], base64.urlsafe_b64encode(key).decode()[:40]}


def of_settings(settings: Any) -> set[str]:
    """What the host is told, and the console never tells."""
    settings.CONSOLE_OIDC_ISSUER, settings.CONSOLE_OIDC_CLIENT_ID = "http://127.0.0.1:1", "postern"
    settings.EXPIRY_WEBHOOK = "http://127.0.0.1:1/hook"
    told = {"CONSOLE_OIDC_CLIENT_SECRET": "the secret of a client", "EXPIRY_WEBHOOK_SECRET": "the secret of a hook",
            "CONSOLE_METRICS_TOKEN": "the token of a monitor", "EMAIL_HOST_PASSWORD": "what mail takes"}  # fmt: skip
    for name, text in told.items():
        setattr(settings, name, text)
    key = base64.urlsafe_b64encode(settings.POSTERN_MASTER_KEY).decode().rstrip("=")
    return {settings.SECRET_KEY, key, *told.values()}


@pytest.fixture
def planted(
    world: dict[str, Any], owner: Client, caplog: pytest.LogCaptureFixture, settings: Any
) -> Iterator[tuple[Client, set[str]]]:
    """An installation with a keystore in use, one that is renewed and one that waits; all made through the console."""
    caplog.set_level(logging.DEBUG)
    now, following, encrypted = (mint("CN=localhost", factories.server_ca(), purpose="server") for _ in range(3))
    sealed = serialization.BestAvailableEncryption(PHRASE.encode())
    p12 = pkcs12.serialize_key_and_certificates(b"a", encrypted.key, encrypted.x509, None, sealed)
    uploads: list[dict[str, Any]] = [
        {"name": "uploaded", "certificate": now.pem, "private_key": now.key_pem},
        {"name": "pkcs12", "certificate_file": SimpleUploadedFile("k.p12", p12), "pass_phrase": PHRASE},
        {"name": "wrong", "certificate": now.pem, "private_key": following.key_pem, "pass_phrase": ""},
    ]
    answers = [owner.post("/keystores/add/", upload) for upload in uploads]
    assert [answer.status_code for answer in answers] == [302, 302, 422]
    row = Keystore.objects.get(name="uploaded")
    typed = {"step": "answer", "certificate": following.pem, "private_key": following.key_pem}
    assert owner.post(f"/keystores/{row.pk}/renew/", typed).status_code == 302
    with change_set("tests", "a key that waits for its certificate"):
        waiting = Keystore.objects.get(name="pkcs12")
        key = issuing.new_key(KeyKind.EC_P256)
        waiting.ask(key, issuing.request(key, "CN=x", []))
        waiting.save()
        factories.EndpointFactory(name="batch", identity="basic", username="b", password=PASSWORD)
    told = {"name": "kept", "port": world["ports"].name, "method": "GET", "path": "/", "credential": "password",
            "username": "b", "password": PASSWORD, "expected_status": "200"}  # fmt: skip
    assert owner.post("/tests/add/", told).status_code in (302, 422)
    kept = SavedTest(name="kept-too", port="ext", method="GET", path="/", credential="password", expected_status=200)
    kept.set_password(PASSWORD)
    kept.save()
    made = Minted(waiting.certificate.parsed, key)
    secrets = {PHRASE, PASSWORD}.union(*(traces(each) for each in (now, following, encrypted, made)))
    secrets |= of_operators(owner) | of_a_machine(world["ports"].node) | of_settings(settings)
    assert not found_in(answers[2].content.decode(), secrets), "what was refused is not shown again"
    yield owner, secrets
    assert not found_in(caplog.text, secrets), "the log shows a secret"


def found_in(text: str, secrets: set[str]) -> set[str]:
    squeezed = "".join(text.split())
    return {secret for secret in secrets if secret in text or "".join(secret.split()) in squeezed}


def test_no_page_shows_one(planted: tuple[Client, set[str]], world: dict[str, Any]) -> None:
    client, secrets = planted
    looked_at = 0
    for url in pages(world):
        answer = client.get(url)
        if answer.status_code == 200:
            looked_at += 1
            assert not found_in(answer.content.decode(errors="replace"), secrets), url
    assert looked_at > 60


def test_no_answer_of_the_api_shows_one(planted: tuple[Client, set[str]], caller_of: Any) -> None:
    """Each operation that is asked with GET, for every object that there is; and what changes answer with."""
    _, secrets = planted
    program = caller_of("owner")
    looked_at = 0
    for operation in OPERATIONS:
        if operation.method == "GET":
            for path in addresses(operation.path):
                answer = program.get(path)
                looked_at += answer.status_code == 200
                assert not found_in(answer.content.decode(errors="replace"), secrets), path
    assert looked_at > 60
    for path in ("/keystores/uploaded", "/endpoints/batch", "/tests/kept-too"):
        entry = program.get(path).json()
        for sent in (entry, entry | {"password": "x" * 70_000}, entry | {"nonsense": 1}):
            assert not found_in(program.put(path, sent).content.decode(), secrets), path


def test_nothing_that_the_api_refuses_comes_back(planted: tuple[Client, set[str]], caller_of: Any) -> None:
    """Pairs that do not fit, keys where certificates belong, passwords beside what is wrong."""
    _, secrets = planted
    caller = caller_of("owner")
    key = Keystore.objects.get(name="uploaded").open_private_key().decode()
    other = mint("CN=other", factories.server_ca(), purpose="server").pem
    for method, path, body in (
        ("PUT", "/keystores/uploaded", {"certificate": other, "private_key": key}),
        ("POST", "/keystores/uploaded/answer", {"certificate": other, "private_key": key, "pass_phrase": PHRASE}),
        ("POST", "/keystores/uploaded/answer", {"certificate": other + key, "at": PHRASE}),
        ("POST", "/certificate-preview", {"certificate": key}),
        ("POST", "/certificate-block", {"certificate": key + PASSWORD}),
        ("POST", "/truststores/partners/crl", {"crl": key}),
        ("PUT", "/operators/ada", {"role": "viewer", "password": PASSWORD, "full_name": "x" * 300}),
        ("PUT", "/tests/t", {"port": "none", "method": "GET", "path": "/", "credential": "none", "password": PASSWORD}),
        ("POST", "/invoke", {"port": "none", "method": PASSWORD, "path": "/", "credential": "none"}),
    ):
        answer = caller.ask(method, path, body)
        assert answer.status_code in (400, 422), (path, answer.content)
        assert not found_in(answer.content.decode(), secrets), (path, answer.content)


def addresses(template: str) -> list[str]:
    """An operation's address for each object that it may be about."""
    section = template.split("/")[1]
    if "{name}" in template:
        if section == "operators":
            names = list(Operator.objects.values_list("username", flat=True))
        else:
            names = list((SECTIONS | {"tests": SavedTest})[section]._default_manager.values_list("name", flat=True))
        return [template.replace("{name}", name) for name in names]
    if "{number}" in template and section == "changes":
        return [template.replace("{number}", str(pk)) for pk in ChangeSet.objects.values_list("pk", flat=True)]
    return [] if "{" in template else [template]


def test_no_answer_to_who_may_everything_shows_one(planted: tuple[Client, set[str]], world: dict[str, Any]) -> None:
    """Asked with every scope, `confirmed` too; for what has an address of its own besides."""
    _, secrets = planted
    caller = Caller(Operator.objects.get(username="olivia-owner"), [*PERMISSIONS, CONFIRMED])
    paths = [f"/{section}/{row.name}" for section in SECTIONS for row in stored(SECTIONS[section])]
    paths += [each.path for each in OPERATIONS if each.method == "GET" and "{" not in each.path]
    paths += ["/keystores/uploaded/request", "/keystores/pkcs12/request", "/tests/kept%20too", "/search?q=kept"]
    paths += [f"/changes/{row.pk}" for row in ChangeSet.objects.all()]
    for path in paths:
        answer = caller.get(path)
        assert answer.status_code in (200, 400, 404), path
        assert not found_in(answer.content.decode(), secrets), path


def test_neither_an_export_nor_the_audit_log_has_one(planted: tuple[Client, set[str]]) -> None:
    out = StringIO()
    call_command("export", stdout=out)
    assert "uploaded" in out.getvalue()
    assert not found_in(out.getvalue(), planted[1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT before, after FROM gateway_change")
        assert not found_in(json.dumps(cursor.fetchall(), default=str), planted[1])


def test_no_table_has_one_in_the_clear(planted: tuple[Client, set[str]]) -> None:
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            rows = [
                bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
                for row in cursor.fetchall()
                for value in row
            ]
            assert not found_in("\n".join(rows), planted[1]), table


@pytest.mark.django_db(transaction=True)  # a backup reads all of one moment, by a transaction of its own
def test_a_backup_has_none_in_the_clear(planted: tuple[Client, set[str]], tmp_path: Path) -> None:
    call_command("backup", str(tmp_path / "backup"), stdout=StringIO())
    assert not found_in((tmp_path / "backup").read_bytes().decode("latin-1"), planted[1])


def test_the_search_finds_what_is_there(planted: tuple[Client, set[str]]) -> None:
    row = Keystore.objects.get(name="uploaded")
    assert found_in(row.open_private_key().decode(), planted[1])
    assert found_in(f"x {PHRASE} y", planted[1])
