"""Operators with their sessions, and the tokens of whoever asks.

Both are what somebody gets in by: changing them takes a token that was made for what the pages ask again for, and a
token never makes one that may more than it may itself.
"""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from console import factors, sessions, tokens
from console.api.conditions import BOTH, check, tag_of
from console.api.operations import BASE, Answer, Call, Operation
from console.api.paging import PAGING, page
from console.api.problems import FieldError, Refused, not_found, of_form, of_validation
from console.api.schemas import (
    COUNT,
    FLAG,
    MARK,
    MOMENT,
    OPERATOR,
    RENAMING,
    TEXT,
    TEXTS,
    maybe,
    page_of,
    several,
    shape,
)  # fmt: skip
from console.forms.operators import OperatorForm
from console.models import CONFIRMED, PERMISSIONS, Operator, Role, Token
from console.operators import changed, end_session, end_sessions, entry_of
from gateway.topology.entries import moment


def listed(call: Call) -> Answer:
    rows = Operator.objects.select_related("authenticator").prefetch_related("passkeys")
    return Answer(page(rows, call.query, "username", entry_of))


def one(call: Call) -> Answer:
    row = _operator(call)
    return Answer(_told(row), headers={"ETag": _etag(row)})


def _etag(row: Operator) -> str:
    """Of what PUT changes. Of his password too, which is not told, and not of his tokens, which come and go."""
    return tag_of(entry_of(row), row.password)


def put(call: Call) -> Answer:
    """A password that is left out stays; nothing else does."""
    name = call.args["name"]
    with transaction.atomic():  # that an owner remains is checked and done at once
        row = Operator.objects.select_for_update().filter(username=name).first()
        check(call.request, _etag(row) if row is not None else "")
        password = call.body.get("password", "")
        if password and row is not None and row.single_sign_on:
            told = FieldError("password", "is none of this operator's: he logs in by single sign-on", "leave it out")
            raise Refused(422, "invalid", "It cannot be done; nothing was changed.", [told])
        saved = _saved(call, row, name, call.body, password)
    headers = {"ETag": _etag(saved)} | ({} if row else {"Location": f"/{BASE}/operators/{name}"})
    return Answer(_told(saved), 200 if row else 201, headers)


def renamed(call: Call) -> Answer:
    name = call.body["name"]
    with transaction.atomic():
        row = _operator(call, to_change=True)
        check(call.request, _etag(row))
        given = {"full_name": row.full_name, "role": row.role, "active": row.is_active}
        saved = _saved(call, row, name, given) if name != row.username else row
    return Answer(_told(saved), headers={"ETag": _etag(saved), "Location": f"/{BASE}/operators/{name}"})


def _saved(call: Call, row: Operator | None, name: str, given: dict[str, Any], password: str = "") -> Operator:
    """As the page's form would be filled in; recorded. Raises Refused."""
    before = entry_of(row) if row is not None else None
    data = {
        "username": name,
        "full_name": given.get("full_name", ""),
        "role": given["role"],
        "is_active": given.get("active", True),
        "new_password": password,
        "new_password_again": password,
    }
    form = OperatorForm(data, instance=row, by=call.token.operator)
    if not form.is_valid():
        raise of_form(form, {"username": "name", "is_active": "active", "new_password": "password"})
    saved = form.save()
    changed(saved, before, call.actor, call.address, new_password=bool(password))
    return saved


# --- sessions ---


def sessions_listed(call: Call) -> Answer:
    return Answer({"items": [_session(row) for row in sessions.of_operator(_operator(call))]})


def _session(row: sessions.Shown) -> dict[str, Any]:
    return {
        "mark": row.mark,
        "began": moment(row.began),
        "seen": moment(row.seen),
        "address": row.address,
        "agent": row.agent,
        "how": row.how,
    }


def session_ended(call: Call) -> Answer:
    with transaction.atomic():
        if not end_session(_operator(call), call.args["mark"], call.actor, call.address):
            raise not_found("He has no such session; it may have ended.")
    return Answer(None, 204)


def sessions_ended(call: Call) -> Answer:
    with transaction.atomic():
        return Answer({"ended": end_sessions(_operator(call), call.actor, call.address)})


def factors_removed(call: Call) -> Answer:
    row = _operator(call)
    if row.pk == call.token.operator.pk:
        raise Refused(409, "in_the_way", "Your own second factors are removed on the page My account.")
    factors.take_away(row, call.actor, call.address)
    return Answer(_told(row))


def all_revoked(call: Call) -> Answer:
    with transaction.atomic():
        return Answer({"revoked": tokens.revoke_all(_operator(call), call.actor, call.address)})


def _operator(call: Call, *, to_change: bool = False) -> Operator:
    rows = Operator.objects.select_for_update() if to_change else Operator.objects.all()
    row = rows.filter(username=call.args["name"]).first()
    if row is None:
        raise not_found("There is no operator of this name.")
    return row


def _told(row: Operator) -> dict[str, Any]:
    return entry_of(row) | {"tokens": [_token(each) for each in row.tokens.standing(timezone.now())]}


# --- tokens ---


def own_tokens(call: Call) -> Answer:
    rows = call.token.operator.tokens.standing(timezone.now())
    return Answer({"items": [_token(row) for row in rows]})


def token_made(call: Call) -> Answer:
    """Its text is on this answer, and nowhere else from then on."""
    scopes = call.body["scopes"]
    for each in scopes:
        if not call.token.may(each):
            told = FieldError("scopes", f"{each} is none of the token's own", "a token makes none that may more")
            raise Refused(422, "invalid", "It cannot be done; nothing was changed.", [told])
    lifetime = timedelta(days=call.body["days"])
    try:
        made, text = tokens.create(call.token.operator, call.body["name"], scopes, lifetime, call.address)
    except ValidationError as error:
        raise of_validation(error) from error
    return Answer(_token(made) | {"token": text}, 201, {"Location": f"/{BASE}/tokens/{made.pk}"})


def token_revoked(call: Call) -> Answer:
    """One's own; of others, who may change operators."""
    row = Token.objects.select_related("operator").filter(pk=call.args["number"]).first()
    if row is None or (row.operator_id != call.token.operator_id and not call.token.may("change_operators")):
        raise not_found("There is no such token of yours.")
    tokens.revoke(row, call.actor, call.address)
    return Answer(None, 204)


def _token(row: Token) -> dict[str, Any]:
    return {
        "number": row.pk,
        "name": row.name,
        "scopes": row.scopes,
        "made": moment(row.made_at),
        "expires": moment(row.expires_at),
        "used": moment(row.used_at),
        "used_from": row.used_from or "",
    }


_TOKEN = {
    "number": COUNT, "name": TEXT, "scopes": TEXTS, "made": MOMENT, "expires": MOMENT, "used": maybe(MOMENT),
    "used_from": TEXT,
}  # fmt: skip
_SESSION = shape(mark=MARK, began=MOMENT, seen=maybe(MOMENT), address=TEXT, agent=TEXT, how=TEXT)
_OPERATOR = {
    **OPERATOR,
    "properties": {**OPERATOR["properties"], "tokens": several(shape(**_TOKEN))},
    "required": [*OPERATOR["required"], "tokens"],
}
_GIVEN = {
    "type": "object",
    "properties": {
        "full_name": {"type": "string", "maxLength": 255},
        "role": {"enum": Role.values},
        "active": FLAG,
        "password": {"type": "string", "maxLength": 1024, "writeOnly": True,
                     "description": "Of a new one it is needed; left out, the one that he has stays"},
    },
    "required": ["role"],
    "additionalProperties": False,
}  # fmt: skip
_ASKED = shape(
    name={"type": "string", "maxLength": 100},
    scopes={"type": "array", "items": {"enum": list(PERMISSIONS)}, "minItems": 1, "maxItems": len(PERMISSIONS)},
    days={"type": "integer", "minimum": 1, "maximum": Token.LONGEST.days},
)
_OWNING, _ONE = ("change_operators",), "/operators/{name}"
OPERATIONS = [
    Operation("operators_list", "GET", "/operators/", "Who logs in to the console",
              listed, _OWNING, {200: page_of(OPERATOR)}, "operators", PAGING),
    Operation("operators_get", "GET", _ONE, "One operator, and his tokens",
              one, _OWNING, {200: _OPERATOR}, "operators", refusals=(404,)),
    Operation("operators_put", "PUT", _ONE, "Add an operator, or change him; a new password ends his sessions",
              put, _OWNING, {200: _OPERATOR, 201: _OPERATOR}, "operators", headers=BOTH, body=_GIVEN,
              refusals=(412, 422), confirmed=True),
    Operation("operators_rename", "POST", f"{_ONE}/rename", "Give him another name to log in by",
              renamed, _OWNING, {200: _OPERATOR}, "operators", headers=("If-Match",), body=RENAMING,
              refusals=(404, 412, 422), confirmed=True),
    Operation("operators_sessions", "GET", f"{_ONE}/sessions", "His logins, the one that was used last first",
              sessions_listed, _OWNING, {200: shape(items=several(_SESSION))}, "operators", refusals=(404,)),
    Operation("operators_end_session", "DELETE", f"{_ONE}/sessions/{{mark}}", "End one of his logins",
              session_ended, _OWNING, {204: None}, "operators", refusals=(404,)),
    Operation("operators_end_sessions", "POST", f"{_ONE}/end-sessions", "Log him out everywhere",
              sessions_ended, _OWNING, {200: shape(ended=COUNT)}, "operators", refusals=(404,)),
    Operation("operators_remove_factors", "POST", f"{_ONE}/remove-factors",
              "Of one who has lost his second factors; he is logged out, and his tokens are revoked",
              factors_removed, _OWNING, {200: _OPERATOR}, "operators", refusals=(404, 409), confirmed=True),
    Operation("operators_revoke_tokens", "POST", f"{_ONE}/revoke-tokens", "Revoke all his tokens",
              all_revoked, _OWNING, {200: shape(revoked=COUNT)}, "operators", refusals=(404,)),
    Operation("tokens_list", "GET", "/tokens/", "Your tokens that stand",
              own_tokens, ("view",), {200: shape(items=several(shape(**_TOKEN)))}, "tokens"),
    Operation("tokens_make", "POST", "/tokens/",
              f"A token that may no more than this one, and nothing that takes {CONFIRMED}; it is shown this once",
              token_made, ("view",), {201: shape(**_TOKEN, token=TEXT)}, "tokens", body=_ASKED, refusals=(422,),
              confirmed=True),
    Operation("tokens_revoke", "DELETE", "/tokens/{number}", "Revoke a token; of others, who may change operators",
              token_revoked, ("view",), {204: None}, "tokens", refusals=(404,)),
]  # fmt: skip
