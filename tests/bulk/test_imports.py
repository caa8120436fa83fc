"""Users, groups and certificates from files: what each row would do, then all of it or the good rows."""

import base64
import csv
import io
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from gateway.bulk import sheets
from gateway.bulk.imports import IMPORTERS, Plan, RowError, import_rows
from gateway.bulk.sheets import SheetError
from gateway.models import Change, ChangeSet
from gateway.topology.export import export
from identity.models import Certificate, Group, User
from tests import factories
from tests.factories import partner_ca
from tests.minting import mint

pytestmark = pytest.mark.django_db


def plan_of(kind: str, data: str | bytes) -> Plan:
    importer = IMPORTERS[kind]()
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    return importer.plan(sheets.read(file, importer.columns, importer.needed))


def carry_out(kind: str, data: str | bytes, **more: Any) -> int | None:
    importer = IMPORTERS[kind]()
    file = io.BytesIO(data.encode() if isinstance(data, str) else data)
    plan = importer.plan(sheets.read(file, importer.columns, importer.needed))
    return import_rows(plan, importer, actor="olivia", message="imported", **more)


def told(plan: Plan) -> list[tuple[int, str, str, str]]:
    return [(each.number, each.action.value, each.name, each.words) for each in plan.shown]


def sheet(*rows: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


# --- users and groups ---


def test_users_are_added_changed_and_left_as_they_are() -> None:
    partners = factories.GroupFactory(name="Partners")
    factories.UserFactory(name="bob", description="Orders")
    factories.UserFactory(name="carol", groups=[partners])
    data = "name,groups,enabled\nalice,Partners,yes\nbob,Partners,no\ncarol,Partners,\n"
    assert told(plan_of("users", data)) == [
        (2, "add", "alice", ""), (3, "change", "bob", "enabled, groups"), (4, "same", "carol", ""),
    ]  # fmt: skip
    assert not User.objects.filter(name="alice").exists()
    revision = carry_out("users", data)
    assert list(User.objects.get(name="alice").groups.all()) == [partners]
    bob = User.objects.get(name="bob")
    assert (bob.enabled, bob.description, list(bob.groups.all())) == (False, "Orders", [partners])
    changes = {change.name: change for change in Change.objects.filter(change_set=revision)}
    assert changes["alice"].after == {"name": "alice", "groups": ["Partners"]}
    assert (changes["bob"].action, changes.keys()) == ("changed", {"alice", "bob"})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("no blanks please,", "name: Use letters, digits and _ . - : @ only, 1 to 255 of them."),
        ("dave,Nowhere", "groups: there is no group Nowhere; add it first."),
        ("dave,Anonymous", "groups: Anonymous: membership follows from the user and cannot be set."),
        ("dave,,maybe", "enabled: 'maybe' is neither yes nor no."),
        ("Default,Partners", "groups: Default is a member of Everybody and Anonymous alone."),
        ("dave,,yes,more,and,more", "6 cells, and the header has 4"),
        (",Partners", "name: This field cannot be blank."),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_reason(row: str, words: str) -> None:
    factories.GroupFactory(name="Partners")
    plan = plan_of("users", f"name,groups,enabled,description\nalice,Partners\n{row}\n")
    assert [outcome.words for outcome in plan.shown if outcome.action == "refuse"] == [words]
    with pytest.raises(RowError, match="1 rows are refused; nothing was imported"):
        carry_out("users", f"name,groups,enabled,description\nalice,Partners\n{row}\n")
    assert not User.objects.filter(name="alice").exists()


def test_the_good_rows_alone_where_they_are_asked_for() -> None:
    assert carry_out("groups", "name\nGood\nnot good\nAlso\n", only_good=True)
    assert set(Group.objects.filter(predefined=False).values_list("name", flat=True)) == {"Good", "Also"}


def test_a_name_that_stands_there_twice_is_refused() -> None:
    plan = plan_of("groups", "name\nOne\nOne\n")
    assert told(plan)[1] == (3, "refuse", "One", "name: One stands in the file twice; keep one of the rows.")


def test_nothing_to_change_makes_no_revision() -> None:
    factories.GroupFactory(name="One", description="first")
    before = ChangeSet.objects.count()
    assert carry_out("groups", "name,description\nOne,first\n") is None
    assert ChangeSet.objects.count() == before


# --- certificates ---


def test_certificates_come_in_pem_and_in_base64() -> None:
    alice = factories.UserFactory(name="alice")
    one, two = mint("CN=one", partner_ca()), mint("CN=two,O=Partner Two", partner_ca())
    der = base64.b64encode(two.der).decode()
    data = sheet(["name", "user", "usage", "certificate"], ["first", "alice", "", one.pem], ["", "", "verify", der])
    revision = carry_out("certificates", data)
    first, second = Certificate.objects.get(name="first"), Certificate.objects.get(name="two")
    assert (first.certificate, first.user, first.usage) == (one.certificate, alice, "ssl_authentication")
    assert (second.certificate, second.user, second.usage) == (two.certificate, None, "verify")
    assert first.subject == "CN=one" and second.not_after.timestamp() == two.certificate.not_after
    recorded = Change.objects.get(change_set=revision, name="first")
    assert (recorded.after["certificate"], recorded.after["user"]) == (one.pem, "alice")
    assert recorded.object_id == str(first.pk)


def test_what_is_on_file_is_known_by_the_certificate_itself() -> None:
    factories.UserFactory(name="alice")
    minted = mint("CN=one", partner_ca())
    factories.CertificateFactory(name="one", minted=minted)
    assert told(plan_of("certificates", sheet(["user", "certificate"], ["alice", minted.pem]))) == [
        (2, "change", "one", "user")
    ]
    assert told(plan_of("certificates", sheet(["user", "certificate"], ["", minted.pem])))[0][1] == "same"
    other = plan_of("certificates", sheet(["name", "certificate"], ["two", minted.pem]))
    assert told(other)[0][3] == "certificate: it is on file already, as one."
    taken = plan_of("certificates", sheet(["name", "certificate"], ["one", mint("CN=new", partner_ca()).pem]))
    assert told(taken)[0][3] == "name: one is taken by another certificate; a renewal needs a name of its own."


@pytest.mark.parametrize(
    ("user", "usage", "certificate", "words"),
    [
        ("nobody", "", None, "user: there is no user nobody; add it first."),
        ("Default", "", None, "user: A certificate cannot be mapped to Default"),
        ("", "signing", None, "usage: there is no 'signing'; one of ssl_authentication"),
        ("", "", "", "certificate: is missing; PEM, or DER in base64."),
        ("", "", "MIIB", "certificate: "),
        ("", "", "no certificate!", "certificate: neither PEM (text with BEGIN CERTIFICATE) nor base64 of DER."),
    ],
)
def test_a_certificate_that_cannot_be_is_refused(user: str, usage: str, certificate: str | None, words: str) -> None:
    pem = mint("CN=one", partner_ca()).pem if certificate is None else certificate
    plan = plan_of("certificates", sheet(["name", "user", "usage", "certificate"], ["x", user, usage, pem]))
    assert told(plan)[0][3].startswith(words)


@pytest.mark.parametrize("as_pem", [True, False], ids=["pem", "der"])
def test_a_private_key_refuses_the_file_and_is_handed_out_to_nobody(as_pem: bool) -> None:
    minted = mint("CN=one", partner_ca())
    der = minted.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    cell = minted.pem + minted.key_pem if as_pem else base64.b64encode(der).decode()
    with pytest.raises(SheetError, match="holds a private key") as refused:
        plan_of("certificates", sheet(["certificate"], [cell]))
    assert "BEGIN" not in str(refused.value) and cell[-40:-30] not in str(refused.value)


def archive(**files: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name, content in files.items():
            made.writestr(name.replace("__", "."), content)
    return data.getvalue()


def test_an_archive_has_a_certificate_a_file_named_after_its_user(tmp_path: Path) -> None:
    factories.UserFactory(name="alice")
    one, two = mint("CN=one", partner_ca()), mint("CN=two", partner_ca())
    data = archive(alice__pem=one.pem.encode(), bob__cer=two.der, readme__txt=b"hello")
    assert told(plan_of("certificates", data)) == [
        (1, "add", "alice", ""),
        (2, "refuse", "bob.cer", "user: there is no user bob; add it first."),
        (3, "refuse", "readme.txt", "no certificate by its name (.pem, .crt, .cer, .der)"),
    ]
    for name, content in (("alice.pem", one.pem.encode()), ("bob.cer", two.der)):
        (tmp_path / name).write_bytes(content)
    importer = IMPORTERS["certificates"]()
    assert [each[1] for each in told(importer.plan(sheets.of_folder(tmp_path)))] == ["add", "refuse"]


def test_many_cost_few_queries_and_are_recorded_one_by_one() -> None:
    factories.UserFactory(name="alice")
    rows = [["alice", mint(f"CN=c{number}", partner_ca()).pem] for number in range(60)]
    data = sheet(["user", "certificate"], *rows)
    with CaptureQueriesContext(connection) as queries:
        revision = carry_out("certificates", data)
    assert len(queries) < 20
    assert Change.objects.filter(change_set=revision, kind="certificates", action="added").count() == 60
    assert export().count("user: alice") == 60


# --- files as a whole ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "The file is empty"),
        ("nome\nalice\n", "There is no column 'nome'"),
        ("description\nx\n", "The column name is missing"),
        ("name,password\nalice,secret\n", "Passwords are not imported"),
        ("name,name\na,b\n", "A column is named twice"),
        (b"name\n\xff\n", "no text in UTF-8"),
        (b'name\n"open\n', "This is no CSV file"),
        (b"PK\x03\x04nothing", "An archive can hold certificates only"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(data: str | bytes, words: str) -> None:
    with pytest.raises(SheetError, match=words):
        plan_of("users", data)


def test_a_damaged_archive_is_refused() -> None:
    with pytest.raises(SheetError, match="no ZIP archive"):
        plan_of("certificates", b"PK\x03\x04nothing")


def test_semicolons_and_a_byte_order_mark_are_what_spreadsheets_write() -> None:
    factories.GroupFactory(name="A")
    factories.GroupFactory(name="B")
    carry_out("users", "\ufeffName;Groups\r\nalice;A B\r\n")
    assert User.objects.get(name="alice").groups.count() == 2


@given(st.lists(st.dictionaries(st.sampled_from(["name", "description"]), st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=8)), max_size=6))  # fmt: skip
def test_what_is_written_is_read_again_and_no_cell_is_a_formula(rows: list[dict[str, str]]) -> None:
    text = sheets.write(["name", "description"], rows)
    for cells in list(csv.reader(io.StringIO(text)))[1:]:
        assert not any(cell.startswith(sheets.FORMULA) for cell in cells)
    found = [row.cells for row in sheets.read(io.BytesIO(text.encode()), ["name", "description"], ["name"])]
    escaped_once = [{key: row.get(key, "") for key in ("name", "description")} for row in rows]
    wanted = [row for row in escaped_once if any(row.values())]
    assert found == [{key: sheets.unescaped(value) for key, value in row.items()} for row in wanted]


def test_refused_rows_are_mended_and_imported_again() -> None:
    plan = plan_of("groups", 'name,description\nnot good,"=cmd()"\n')
    text = sheets.write(["name", "description", "error"], plan.refused)
    assert "'=cmd()" in text
    assert carry_out("groups", text.replace("not good", "Good"))
    assert Group.objects.get(name="Good").description == "=cmd()"


# --- the command ---


def test_the_command_looks_first_and_tells(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("name\nGood\nnot good\n")
    refused = tmp_path / "refused.csv"
    call_command("import-csv", "groups", str(file), "--dry-run", "--refused", str(refused))
    seen = capsys.readouterr()
    assert seen.out == "1 to add, 0 to change, 0 as they are, 1 refused\nNothing was changed.\n"
    assert "row 3, not good: name: Use letters" in seen.err
    assert refused.read_text().splitlines()[1].startswith("not good,,")
    with pytest.raises(CommandError, match="1 rows are refused"):
        call_command("import-csv", "groups", str(file))
    call_command("import-csv", "groups", str(file), "--good-rows")
    assert Group.objects.filter(name="Good").exists()


# --- many that change, and how far it is ---


def test_many_that_change_cost_few_queries_and_are_recorded_one_by_one() -> None:
    one, two = factories.GroupFactory(name="One"), factories.GroupFactory(name="Two")
    for number in range(40):
        factories.UserFactory(name=f"u{number}", groups=[one])
    rows = [[f"u{number}", "no" if number % 2 else "yes", "Two", f"number {number}"] for number in range(40)]
    data = sheet(["name", "enabled", "groups", "description"], *rows)
    with CaptureQueriesContext(connection) as queries:
        revision = carry_out("users", data)
    assert len(queries) < 30
    user = User.objects.get(name="u7")
    assert (user.enabled, list(user.groups.all()), user.description) == (False, [two], "number 7")
    change = Change.objects.get(change_set=revision, name="u7")
    assert (change.action, change.before["groups"], change.after["groups"]) == ("changed", ["One"], ["Two"])
    assert "enabled" not in change.before and change.after["enabled"] is False
    assert Change.objects.filter(change_set=revision, action="changed").count() == 40
    assert carry_out("users", data) is None, "the same file again changes nothing"


def test_certificates_change_in_what_is_said_of_them_without_a_query_for_each() -> None:
    alice, bob = factories.UserFactory(name="alice"), factories.UserFactory(name="bob")
    factories.ExternalPortFactory(name="ext")
    pems = []
    for number in range(30):
        minted = mint(f"CN=c{number}", partner_ca())
        factories.CertificateFactory(name=f"c{number}", minted=minted, user=alice, description="stays")
        pems.append(minted.pem)
    rows = [["bob", "ext", "2027-03-31", pem] for pem in pems]
    data = sheet(["user", "ports", "logs_in_until", "certificate"], *rows)
    with CaptureQueriesContext(connection) as queries:
        carry_out("certificates", data)
    assert len(queries) < 25
    row = Certificate.objects.get(name="c7")
    assert (row.user, row.ports, row.description) == (bob, ["ext"], "stays")
    assert row.logs_in_until == datetime(2027, 3, 31, tzinfo=UTC)
    assert carry_out("certificates", data) is None


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("ports", "ext nowhere", "ports: there is no port nowhere; add it first, or name another."),
        ("logs_in_until", "tomorrow", "logs_in_until: 'tomorrow' is no date and no time, like 2027-03-31"),
    ],
)
def test_limits_that_cannot_be_are_refused(column: str, cell: str, words: str) -> None:
    factories.ExternalPortFactory(name="ext")
    plan = plan_of("certificates", sheet(["certificate", column], [mint("CN=one", partner_ca()).pem, cell]))
    assert told(plan)[0][3].startswith(words)


def test_how_far_it_is_only_grows_and_moves_while_it_is_written() -> None:
    factories.UserFactory(name="u0", description="before")
    importer = IMPORTERS["users"]()
    rows = [[f"u{number}", "after"] for number in range(1200)]
    data = io.BytesIO(sheet(["name", "description"], *rows).encode())
    plan = importer.plan(sheets.read(data, importer.columns, importer.needed))
    shares: list[float] = []
    import_rows(plan, importer, actor="tests", message="many", progress=shares.append)
    assert shares == sorted(shares) and len(set(shares)) > 4
    assert shares[0] == 0 and 0.5 < shares[-1] < 1
