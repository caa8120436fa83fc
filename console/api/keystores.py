"""Keystores beyond their entries: a key made here, the request that an authority answers, and the renewal.

A key that is made here never leaves, and what answers its request has to be of it: so a program may renew by itself.
Whoever brings or makes a key needs a token for what the pages ask again for.
"""

from typing import Any

from console.api.changing import DRY_RUN, carry_out
from console.api.operations import Answer, Call, Operation
from console.api.problems import Refused, not_found, of_form
from console.api.schemas import TEXT, component
from console.forms.keystores import KINDS, SAME_KEY, AnswerForm, AskForm, GenerateForm, known_keys
from gateway.audit import Recorder
from gateway.renewals import prepare, swap
from identity.core.certificates import key_matches
from identity.core.issuing import MAX_DAYS
from identity.core.vault import VaultError
from identity.models import Keystore

PEM_FILE = "application/x-pem-file"
_KEY_KINDS = [kind for kind, _ in KINDS]


def generate(call: Call) -> Answer:
    """A new keystore; of a name that is taken nothing is made."""
    data = {"name": call.args["name"], "kind": _KEY_KINDS[0], "days": 90} | call.body
    form = GenerateForm(data | {"names": "\n".join(call.body.get("names", []))})
    if not form.is_valid():
        raise of_form(form)
    message = f"keystore {call.args['name']} added, its key made here"
    told = carry_out(
        call, message, lambda recorder: form.save(), ["keystores"], section="keystores", name=call.args["name"]
    )
    return Answer(told, 200 if call.dry_run else 201)


def request(call: Call) -> Answer:
    """Of the renewal that is under way, else of the key in use."""
    row = _row(call)
    try:
        return Answer(row.request())
    except VaultError as error:
        raise Refused(409, "sealed", f"The request cannot be signed: {error}") from error


def ask(call: Call) -> Answer:
    leaf = _row(call).certificate
    subject = call.body.get("subject", leaf.parsed.subject.rfc4514_string())
    names = call.body.get("names", list(leaf.alternative_names))
    form = AskForm({"kind": call.body.get("kind", _KEY_KINDS[0]), "subject": subject, "names": "\n".join(names)})
    return _renewed(call, form, form.ask, "asked for")


def answer(call: Call) -> Answer:
    form = AnswerForm(call.body)

    def take(row: Keystore) -> None:
        known = known_keys(row)
        form.answer(row)
        if not call.dry_run and not any(key_matches(key, row.next_certificates[0]) for key in known):
            call.require_confirmed()

    return _renewed(call, form, take, "answered")


def _renewed(call: Call, form: AskForm | AnswerForm, act: Any, done: str) -> Answer:
    if not form.is_valid():
        raise of_form(form)

    def renew(recorder: Recorder) -> None:
        row = _row(call)
        prepare(row, lambda: act(row))

    return _carried_out(call, renew, f"renewal of keystore {call.args['name']} {done}")


def swapped(call: Call) -> Answer:
    return _carried_out(call, lambda recorder: swap(_row(call)), f"renewal of keystore {call.args['name']}: swap", 409)


def dropped(call: Call) -> Answer:
    def drop(recorder: Recorder) -> None:
        row = _row(call)
        prepare(row, row.drop_next)

    return _carried_out(call, drop, f"renewal of keystore {call.args['name']}: drop", 409)


def _carried_out(call: Call, act: Any, message: str, status: int = 422) -> Answer:
    told = carry_out(
        call, message, act, ["keystores"], section="keystores", name=call.args["name"], status=status, asks=False
    )
    return Answer(told)


def _row(call: Call) -> Keystore:
    row = Keystore.objects.filter(name=call.args["name"]).first()
    if row is None:
        raise not_found("There is no keystore of this name.")
    return row


def _body(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_SUBJECT = {
    "subject": {"type": "string", "maxLength": 1024, "description": "Such as CN=gateway.example,O=Acme"},
    "names": {"type": "array", "items": {"type": "string", "maxLength": 500}, "maxItems": 200,
              "description": "dns:…, ip:…, email:…, uri:…"},
}  # fmt: skip
_GENERATED = _body(
    **_SUBJECT,
    kind={"enum": _KEY_KINDS},
    days={"type": "integer", "minimum": 1, "maximum": MAX_DAYS},
    description=TEXT,
)
_ASKED = _body(**_SUBJECT, kind={"enum": [*_KEY_KINDS, SAME_KEY[0]]})
_ANSWERED = _body(
    ("certificate",),
    certificate={"type": "string", "description": "PEM: the authority's answer, with its intermediates"},
    private_key={"type": "string", "writeOnly": True, "description": "PEM; left out: the key that is kept here"},
    pass_phrase={"type": "string", "writeOnly": True, "maxLength": 1024},
    at={"type": "string", "format": "date-time", "description": "When it takes over; left out: with /swap"},
)
_OUTCOME = component("outcome")
_CHANGING, _MESSAGE, _ONE = ("view", "change_identity"), ("Change-Message",), "/keystores/{name}"
OPERATIONS = [
    Operation("keystores_generate", "POST", f"{_ONE}/generate", "Add a keystore whose key is made here",
              generate, _CHANGING, {200: _OUTCOME, 201: _OUTCOME}, "keystores", (DRY_RUN,), _MESSAGE, _GENERATED,
              (409, 422), confirmed=True, costly=True),
    Operation("keystores_request", "GET", f"{_ONE}/request", "The request that an authority answers, in PEM",
              request, _CHANGING, {200: TEXT}, "keystores", refusals=(404, 409), gives=PEM_FILE),
    Operation("keystores_ask", "POST", f"{_ONE}/ask",
              "Begin a renewal: subject and names as they are, unless told; the request is at /request then",
              ask, _CHANGING, {200: _OUTCOME}, "keystores", (DRY_RUN,), _MESSAGE, _ASKED, (404, 409, 422), costly=True),
    Operation("keystores_answer", "POST", f"{_ONE}/answer", "Store the certificate that takes over",
              answer, _CHANGING, {200: _OUTCOME}, "keystores", (DRY_RUN,), _MESSAGE, _ANSWERED, (404, 409, 422)),
    Operation("keystores_swap", "POST", f"{_ONE}/swap",
              "Let it take over now; registrations that know it admit both until no tunnel shows the old one",
              swapped, _CHANGING, {200: _OUTCOME}, "keystores", (DRY_RUN,), _MESSAGE, refusals=(404, 409)),
    Operation("keystores_drop", "POST", f"{_ONE}/drop", "Drop the renewal, and its key with it",
              dropped, _CHANGING, {200: _OUTCOME}, "keystores", (DRY_RUN,), _MESSAGE, refusals=(404, 409)),
]  # fmt: skip
