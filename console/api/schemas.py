"""Shapes of what the API gives and takes, but for the entries themselves: those are the configuration file's."""

from typing import Any

from console.forms.invoke import METHODS
from gateway.models import Action
from gateway.topology.entries import SECTIONS
from gateway.topology.schema import NAME

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time"}
MAYBE: Schema = {"type": ["string", "null"]}


def shape(**properties: Schema) -> Schema:
    """An object with exactly these."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def several(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def component(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(item: Schema) -> Schema:
    """`next`: the cursor of the next page; null at the end."""
    return shape(items=several(item), next=MAYBE)


def entry(section: str) -> Schema:
    return component(section)


MARKS: Schema = {"enum": ["good", "note", "bad"]}
FOUND = shape(mark=MARKS, text=TEXT)
MARK: Schema = {"type": "string", "pattern": "^[0-9a-f]{40}$", "description": "Of a session; nobody logs in by it."}
RENAMING = shape(name=NAME)

PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457. `code` is for programs and never renamed; `errors` tell field by field.",
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "code": TEXT,
        "detail": TEXT,
        "errors": several(
            {
                "type": "object",
                "properties": {"field": TEXT, "problem": TEXT, "remedy": TEXT},
                "required": ["field", "problem"],
                "additionalProperties": False,
            }
        ),
    },
    "required": ["type", "title", "status", "code", "detail"],
    "additionalProperties": False,
}

CHANGE = shape(
    action={"enum": list(Action.values)},
    section=TEXT,
    name=TEXT,
    before={"type": ["object", "null"]},
    after={"type": ["object", "null"]},
)

_CALLERS = shape(kind=TEXT, count=COUNT, names=TEXTS)
_EFFECT = shape(
    gained=FLAG, port=TEXT, callers=_CALLERS, credentials=TEXTS, reason=MAYBE, services=TEXTS, places=COUNT, partly=FLAG
)
_RUNS_AS = shape(callers=_CALLERS, port=TEXT, before=MAYBE, after=MAYBE)
OUTLOOK = shape(effects=several(_EFFECT), identities=several(_RUNS_AS), unexamined=COUNT)
OUTCOME = shape(
    dry_run=FLAG,
    revision={"type": ["integer", "null"], "description": "The number that the change made; null where none was."},
    changes=several(component("change")),
    more={"type": "integer", "description": "Changes that are not listed."},
    warnings=TEXTS,
    access={
        "description": "Of a dry run: what would change for whom, where access hangs on it.",
        "anyOf": [component("outlook"), {"type": "null"}],
    },
)

CHANGE_SET = shape(
    number=COUNT, at=MOMENT, actor=TEXT, address=MAYBE, message=TEXT, configures=FLAG,
    changes=several(component("change")), more=COUNT,
)  # fmt: skip

# --- answers about access ---

_REACHED = shape(path=TEXT, method=TEXT, label=TEXT, user=TEXT)
_REFUSED = shape(reason=TEXT, places=COUNT)
REACH = several(shape(port=TEXT, count=COUNT, reached=several(_REACHED), refused=several(_REFUSED)))
_CONDITION = shape(name=TEXT, wanted=TEXT, found=TEXT, holds=FLAG)
MEANING = shape(
    node=TEXT, port=TEXT, user=TEXT, reason=MAYBE, words=TEXT,
    rules=several(shape(rule=TEXT, matches=FLAG, conditions=several(_CONDITION))),
)  # fmt: skip
WHO = shape(
    port=TEXT, path=TEXT, method=TEXT, label=TEXT, strangers=FLAG, without=COUNT,
    callers=several(shape(count=COUNT, names=TEXTS, credentials=TEXTS)),
    refused=several(shape(reason=TEXT, users=COUNT)),
)  # fmt: skip

# --- test invokes ---

INVOCATION: Schema = {
    "type": "object",
    "properties": {
        "port": TEXT,
        "method": {"enum": list(METHODS)},
        "path": {"type": "string", "description": "With its query: /orders/7?x=1"},
        "credential": {"enum": ["certificate", "keystore", "pem", "password", "none"]},
        "certificate": {"type": "string", "description": "Name of one of /certificates/; its key is not needed"},
        "keystore": {"type": "string", "description": "Name of one of /keystores/"},
        "pem": {"type": "string", "description": "A certificate that need not be on file, and what comes with it"},
        "username": TEXT,
        "password": {"type": "string", "writeOnly": True},
        "headers": several(shape(name=TEXT, value=TEXT)),
        "body": TEXT,
    },
    "required": ["port", "method", "path", "credential"],
    "additionalProperties": False,
}
LANE = shape(
    node=TEXT, port=TEXT, outcome=TEXT, reason=MAYBE, user=MAYBE, credential=TEXT, route=TEXT,
    steps=several(shape(check=TEXT, passed={"type": ["boolean", "null"]}, found=TEXT, against=TEXT)),
)  # fmt: skip
INVOKED = shape(
    status={"type": "integer"}, reason=MAYBE, trace_id=TEXT, seconds={"type": "number"}, headers=several(several(TEXT)),
    body={"type": "string", "contentEncoding": "base64"}, body_size=COUNT, lanes=several(component("lane")),
    curl=TEXT,
)  # fmt: skip
SIMULATED = shape(status={"type": "integer"}, reason=MAYBE, lanes=several(component("lane")), curl=TEXT)

# --- what is ---

STATE = shape(
    revision=COUNT,
    nodes=several(shape(name=TEXT, role=TEXT, answers=FLAG, problem=TEXT, revision={"type": ["integer", "null"]})),
    tunnels=several(
        shape(registration=TEXT, port=TEXT, node=TEXT, status=TEXT, idle=COUNT, busy=COUNT, last_seen=maybe(MOMENT),
              problem=TEXT)
    ),
    ports=several(shape(name=TEXT, node=TEXT, status=TEXT, connections={"type": ["integer", "null"]})),
    concerns=several(shape(kind={"enum": ["bad", "warn"]}, text=TEXT, hint=TEXT)),
    refused={
        "description": "In the last hour, by reason; `before`: in the hour before it.",
        **several(shape(reason=TEXT, count=COUNT, before=COUNT, trend=TEXT)),
    },
)  # fmt: skip
REFUSAL = shape(
    kind=TEXT, at=MOMENT, trace_id=TEXT, node=TEXT, port=TEXT, address=TEXT, method=TEXT, path=TEXT,
    status={"type": "integer"}, reason=TEXT, cause=TEXT, words=TEXT, user=TEXT, certificate=TEXT, subject=TEXT,
    test=FLAG,
)  # fmt: skip
ENDING = shape(
    kind=TEXT, section=TEXT, name=TEXT, subject=TEXT, ends=MOMENT, owner=TEXT, fingerprint=TEXT, logs_in=FLAG
)
OPERATOR: Schema = {
    "type": "object",
    "properties": {
        "name": TEXT, "full_name": TEXT, "role": TEXT, "active": FLAG, "second_factors": TEXTS, "single_sign_on": TEXT,
    },
    "required": ["name", "full_name", "role", "active"],
    "additionalProperties": False,
}  # fmt: skip


def document() -> Schema:
    """The configuration as a whole: what `apply` takes and `export` gives."""
    sections = {
        section: {"type": ["array", "null"], "items": {"allOf": [entry(section), {"required": ["name"]}]}}
        for section in SECTIONS
    }
    return {
        "type": "object",
        "properties": {"version": {"const": 1}, **sections},
        "required": ["version"],
        "additionalProperties": False,
    }
