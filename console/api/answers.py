"""Who reaches what; and what would come, or comes, of a request."""

from typing import Any

from console.access import Answer as Found
from console.access import access_of
from console.admission import admission
from console.api.changing import code
from console.api.operations import Answer, Call, Operation
from console.api.paging import PAGING, USUAL
from console.api.problems import FieldError, Refused, malformed, not_found, of_form
from console.api.schemas import (
    COUNT,
    FLAG,
    INVOCATION,
    INVOKED,
    MEANING,
    REACH,
    SIMULATED,
    TEXT,
    TEXTS,
    WHO,
    several,
    shape,
)  # fmt: skip
from console.curl import curl
from console.forms.invoke import InvokeForm
from console.invocation import InvocationError, tried
from gateway.access.answers import Identified, Who
from gateway.topology.entries import SECTIONS, stored
from identity.models import ACL, Certificate, Keystore

# --- answers about access ---


def _access(section: str) -> Any:
    def run(call: Call) -> Answer:
        row = stored(SECTIONS[section]).filter(name=call.args["name"]).first()
        if row is None:
            raise not_found(f"There is no {SECTIONS[section]._meta.verbose_name} of this name.")
        found = access_of(row)
        assert found is not None
        if found.problem:
            raise Refused(409, "not_in_force", f"The configuration cannot be put in force: {found.problem}")
        return Answer(_told(found))

    return run


def _told(found: Found) -> dict[str, Any]:
    return {
        "reaches": [
            {
                "by": reach.by,
                "ports": [
                    {
                        "port": port.name,
                        "count": port.count,
                        "reached": [
                            {
                                "path": each.place.path,
                                "method": each.place.method,
                                "label": each.label,
                                "user": each.user,
                            }
                            for each in port.places
                        ],
                        "refused": [
                            {"reason": words.partition(" ")[0], "places": count} for words, count in port.refused
                        ],
                    }
                    for port in reach.ports
                ],
            }
            for reach in found.reaches or []
        ],
        "means": [_meaning(each) for each in found.meanings or []],
        "reached_by": [_who(each) for each in found.who or []],
    }


def _meaning(each: Identified) -> dict[str, Any]:
    return {
        "node": each.node,
        "port": each.port,
        "user": each.user,
        "reason": code(each.reason),
        "words": each.words,
        "rules": [
            {
                "rule": trial.rule.name,
                "matches": trial.matches,
                "conditions": [
                    {"name": one.name, "wanted": one.wanted, "found": one.found, "holds": one.holds}
                    for one in trial.conditions
                ],
            }
            for trial in each.rules
        ],
    }


def _who(each: Who) -> dict[str, Any]:
    return {
        "port": each.place.port,
        "path": each.place.path,
        "method": each.place.method,
        "label": each.label,
        "strangers": each.strangers,
        "without": each.without,
        "callers": [
            {"count": one.count, "names": list(one.names), "credentials": [str(way) for way in one.credentials]}
            for one in each.callers
        ],
        "refused": [{"reason": code(reason), "users": count} for reason, count in each.refused],
    }


def _admission(call: Call) -> Answer:
    row = ACL.objects.filter(name=call.args["name"]).first()
    if row is None:
        raise not_found("There is no ACL of this name.")
    found = admission(row, call.query.get("limit", USUAL))
    told = {"words": found.words, "everybody": found.everybody, "strangers": found.strangers, "count": found.total}
    return Answer(told | {"users": [user.name for user in found.users]})


# --- test invokes ---


def _invoke(call: Call, *, simulate: bool) -> Answer:
    form = InvokeForm(form_data(call.body))
    if not form.is_valid():
        raise of_form(form)
    invocation = form.invocation()
    try:
        answer = tried(call.actor, call.address, invocation, simulate=simulate)
    except InvocationError as error:
        raise Refused(503, "no_answer", str(error)) from error
    return Answer(answer | {"curl": curl(invocation)})


_TEXTS = ("port", "method", "path", "credential", "pem", "username", "password", "body")
_BY_NAME = {"certificate": Certificate, "keystore": Keystore}


def form_data(body: dict[str, Any]) -> dict[str, Any]:
    """As the page's form has it: certificates and keystores by key, headers as lines. Raises Refused."""
    data: dict[str, Any] = {name: body[name] for name in _TEXTS if name in body}
    for name, model in _BY_NAME.items():
        if name in body:
            row = model.objects.filter(name=body[name]).first()
            if row is None:
                told = FieldError(name, f'there is no {model._meta.verbose_name} "{body[name][:255]}"')
                raise Refused(422, "invalid", "It cannot be done; nothing was sent.", [told])
            data[name] = row.pk
    data["headers"] = "\n".join(_header(each) for each in body.get("headers", []))
    return data


def _header(given: dict[str, str]) -> str:
    if any(c in "\r\n" for c in given["name"] + given["value"]):
        raise malformed("A header has no line breaks.", "headers")
    return f"{given['name']}: {given['value']}"


_ACCESS = shape(reaches=several(shape(by=TEXT, ports=REACH)), means=several(MEANING), reached_by=several(WHO))
_ADMISSION = shape(
    words=TEXT,
    everybody={"description": "Whether whoever has proved to be some user is let in.", **FLAG},
    strangers={"description": "Whether callers without a credential are.", **FLAG},
    count=COUNT,
    users=TEXTS,
)
_INVOKING = ("test_invoke",)
OPERATIONS = [
    *(
        Operation(f"{section}_access", "GET", f"/{section}/{{name}}/access", words, _access(section), ("view",),
                  {200: _ACCESS}, section, refusals=(404, 409), costly=True)
        for section, words in {
            "certificates": "Whom it means, and what whoever proves it reaches",
            "users": "What the user reaches, by each of his credentials",
            "services": "Who reaches it, and from where",
            "apis": "Who reaches it, and from where",
        }.items()
    ),
    Operation("acls_admission", "GET", "/acls/{name}/admission",
              "Whom it lets in, as it is stored; `count` of users, and the first of them by name",
              _admission, ("view",), {200: _ADMISSION}, "acls", (PAGING[0],), refusals=(404,)),
    Operation("invoke", "POST", "/invoke", "Test invoke: a real request through the running nodes, and why it ended so",
              lambda call: _invoke(call, simulate=False), _INVOKING, {200: INVOKED}, "tests", body=INVOCATION,
              refusals=(422, 503), costly=True),
    Operation("simulate", "POST", "/simulate", "What the nodes would decide; nothing is sent",
              lambda call: _invoke(call, simulate=True), _INVOKING, {200: SIMULATED}, "tests", body=INVOCATION,
              refusals=(422, 503), costly=True),
]  # fmt: skip
