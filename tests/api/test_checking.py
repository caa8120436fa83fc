"""What is sent against the schema of its operation: each kind of thing that may be wrong, told at its field."""

from typing import Any

import pytest

from console.api.checking import check
from console.api.problems import Refused

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 3},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "kind": {"enum": ["a", "b"]},
        "flag": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        "secret": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"kept": {"type": "string"}}}]},
        "part": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
    "required": ["name"],
}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({}, "name"),
        ([], ""),
        ({"name": ""}, "name"),
        ({"name": "abcd"}, "name"),
        ({"name": None}, "name"),
        ({"count": 0}, "count"),
        ({"count": 10}, "count"),
        ({"count": True}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": 1e300}, "count"),
        ({"kind": "c"}, "kind"),
        ({"kind": 1}, "kind"),
        ({"kind": ["a"]}, "kind"),
        ({"flag": 1}, "flag"),
        ({"names": []}, "names"),
        ({"names": ["a", "b", "c"]}, "names"),
        ({"names": [1]}, "names"),
        ({"names": "a"}, "names"),
        ({"secret": 3}, "secret"),
        ({"secret": {"lost": "x"}}, "secret"),
        ({"part": {}}, "part.at"),
        ({"part": {"at": "x", "to": "y"}}, "part.to"),
        ({"nome": "x"}, "nome"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(content: Any, field: str) -> None:
    with pytest.raises(Refused) as caught:
        check({"name": "x"} | content if isinstance(content, dict) and content else content, SCHEMA)
    told = caught.value
    assert (told.status, told.code) == (400, "malformed")
    assert [each.field for each in told.errors] == ([field] if field else [])


def test_what_is_right_is_let_through() -> None:
    whole = {"name": "abc", "count": 9, "kind": "b", "flag": False, "names": ["a"], "secret": {"kept": "x"}}
    check(whole | {"part": {"at": ""}}, SCHEMA)
    check({"name": "a", "count": 7.0, "secret": "x"}, SCHEMA)  # JSON knows one kind of number
