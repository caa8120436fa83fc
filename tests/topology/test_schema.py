"""The JSON Schema of entries is heard from the readers: every field of the file is in it, and every export fits."""

from typing import Any

import pytest
from django.db.models import Model
from jsonschema_rs import validator_for

from gateway.topology.entries import SECTIONS, entry_of, stored
from gateway.topology.schema import schema_of
from tests.console.conftest import world
from tests.test_documents import fields_read

__all__ = ["world"]


def names(schema: dict[str, Any], within: str = "") -> set[str]:
    """Fields, those of nested entries in full."""
    found: set[str] = set()
    for name, each in schema["properties"].items():
        nested = names(each, f"{within}{name}.") if "properties" in each else {f"{within}{name}"}
        found |= nested
    return found


@pytest.mark.parametrize("section", list(SECTIONS))
def test_it_has_every_field_that_the_reader_reads(section: str) -> None:
    schema = schema_of(section)
    told = names(schema)
    read = {name for name in fields_read(section) if name not in ("tls", "may_assert", "next")}
    nested = {"connect.address", "connect.registration"} if section == "ports" else set()
    nested |= {"crls.url", "crls.every"} if section == "truststores" else set()
    assert {each.rpartition(".")[2] for each in told} - {"name"} >= {
        each.rpartition(".")[2] for each in read - nested if not each.startswith(("service_access", "ip_access"))
    } - {"connections", "address", "registration", "url", "every"} | ({"url"} if section == "endpoints" else set())
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("section", list(SECTIONS))
def test_what_is_stored_fits_it(section: str, world: dict[str, Model]) -> None:
    validator = validator_for(schema_of(section))
    for row in stored(SECTIONS[section]):
        entry = entry_of(row)
        assert validator.is_valid(entry), (entry, [str(error) for error in validator.iter_errors(entry)])
        assert not validator.is_valid(entry | {"no_such_field": 1})


def test_hearing_asks_no_database() -> None:
    """No mark lets this test near one."""
    schema_of.cache_clear()
    assert schema_of("keystores")["properties"]["next"]["properties"].keys() >= {"certificate", "private_key", "from"}


@pytest.mark.parametrize(
    ("section", "needed"),
    [("nodes", ["role"]), ("services", ["node", "path"]), ("certificates", ["certificate"]), ("groups", None)],
)
def test_what_is_needed_is_said(section: str, needed: list[str] | None) -> None:
    assert schema_of(section).get("required") == needed


def test_a_secret_is_a_text_or_what_stands_for_one() -> None:
    kept, text = {"kept": "0" * 32}, "a long password"
    for section, entry in (("users", {}), ("endpoints", {"url": "https://x.example"})):
        validator = validator_for(schema_of(section))
        assert all(validator.is_valid(entry | {"password": value}) for value in (kept, text, None))
        assert not validator.is_valid(entry | {"password": kept | {"more": 1}})
