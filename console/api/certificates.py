"""Certificates beyond their entries: looked at before they are stored, put in another's place, shut out unseen."""

import re
from typing import Any

from console.api.changing import DRY_RUN, carry_out
from console.api.operations import Answer, Call, Operation
from console.api.problems import FieldError, Refused, not_found, of_form
from console.api.schemas import FOUND, MAYBE, MOMENT, TEXT, TEXTS, component, several, shape
from console.blocking import put_on_file, throw
from console.certificate_preview import Preview, preview, proposed_name
from console.forms.certificates import NewCertificateForm
from gateway.audit import Recorder
from identity.core import files
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError, pem_of
from identity.models import Certificate


def previewed(call: Call) -> Answer:
    chain = _chain(call)
    found = preview(chain[0], chain[1:])
    return Answer(_told(found) | {"proposed_name": proposed_name(found.certificate)})


def _told(found: Preview) -> dict[str, Any]:
    leaf = found.certificate
    return {
        "subject": leaf.subject.text,
        "issuer": leaf.issuer.text,
        "alternative_names": list(leaf.alternative_names),
        "serial": found.serial,
        "sha256": leaf.sha256,
        "not_before": found.not_before.isoformat(),
        "not_after": found.not_after.isoformat(),
        "findings": [{"mark": each.mark, "text": each.text} for each in found.findings],
        "on_file": found.on_file.name if found.on_file else None,
        "renews": found.renews.name if found.renews else None,
        "may_renew": [row.name for row in found.candidates],
    }


def replaced(call: Call) -> Answer:
    """Old and new both log in until the old one's end: callers change over in their own time."""
    old, chain = _row(call), _chain(call)
    candidates = Certificate.objects.may_be_renewed_by(chain[0])
    if old not in candidates:
        told = FieldError("certificate", f"has not the subject of {old}", "add it by PUT, under a name of its own")
        raise Refused(422, "invalid", "It cannot be done; nothing was changed.", [told])
    name = call.body.get("name") or proposed_name(chain[0])
    form = NewCertificateForm(
        {
            "pem": pem_of(chain),
            "name": name,
            "user": old.user_id or "",
            "usage": old.usage,
            "ports": old.ports,
            "description": call.body.get("description", old.description),
            "replaces": old.pk,
            "old_until": _day(call.body.get("old_until", "")),
        },
        candidates=candidates,
    )
    if not form.is_valid():
        raise of_form(form)
    told = carry_out(
        call, f"certificate {name} added in the place of {old}", lambda recorder: form.save(), ["certificates"],
        section="certificates", name=name,
    )  # fmt: skip
    return Answer(told)


def _day(text: str) -> str:
    """Raises Refused: forms take days in other ways too, some of which two people read differently."""
    if text and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        told = FieldError("old_until", "is no day", "write it like 2027-01-31")
        raise Refused(422, "invalid", "It cannot be done; nothing was changed.", [told])
    return text


def unmapped(call: Call) -> Answer:
    def unmap(recorder: Recorder) -> None:
        row = _row(call)
        row.user = None
        row.save()

    message = f"Certificate {_row(call)} is mapped to nobody now"
    return Answer(carry_out(call, message, unmap, ["certificates"], section="certificates", name=call.args["name"]))


def shut_out(call: Call) -> Answer:
    leaf = _chain(call)[0]
    known = put_on_file(leaf)
    message = f"Certificate {known} is blocked"
    told = carry_out(
        call, message, lambda recorder: throw(put_on_file(leaf), block=True), ["certificates"], section="certificates"
    )
    return Answer(told)


def _chain(call: Call) -> tuple[Parsed, ...]:
    """The certificate, then what came with it. Raises Refused."""
    try:
        return files.chain_from(call.body["certificate"].encode())
    except CertificateError as error:
        told = FieldError.of("certificate", str(error))
        raise Refused(422, "invalid", "The certificate cannot be read.", [told]) from error


def _row(call: Call) -> Certificate:
    row = Certificate.objects.select_related("user").filter(name=call.args["name"]).first()
    if row is None:
        raise not_found("There is no certificate of this name.")
    return row


_PEM = {"type": "string", "maxLength": files.MAX_FILE, "description": "PEM; its issuers may be in it"}
_ONE_CERTIFICATE = shape(certificate=_PEM)
_PREVIEW = shape(
    subject=TEXT, issuer=TEXT, alternative_names=TEXTS, serial=TEXT, sha256=TEXT, not_before=MOMENT, not_after=MOMENT,
    findings=several(FOUND), on_file=MAYBE, renews=MAYBE,
    may_renew=TEXTS, proposed_name=TEXT,
)  # fmt: skip
_REPLACEMENT = {
    "type": "object",
    "properties": {
        "certificate": _PEM,
        "name": {"type": "string", "description": "Of the new one; left out: made of its common name"},
        "description": TEXT,
        "old_until": {"type": "string", "format": "date",
                      "description": "The last day on which the old one logs in; left out: as long as it is valid"},
    },
    "required": ["certificate"],
    "additionalProperties": False,
}  # fmt: skip
_OUTCOME = component("outcome")
_CHANGING, _MESSAGE = ("view", "change_identity"), ("Change-Message",)
OPERATIONS = [
    Operation("certificates_preview", "POST", "/certificate-preview",
              "What there is to know of a certificate before it is stored; nothing is",
              previewed, _CHANGING, {200: _PREVIEW}, "certificates", body=_ONE_CERTIFICATE, refusals=(422,),
              costly=True),
    Operation("certificates_replace", "POST", "/certificates/{name}/replace",
              "Add the renewed certificate, running as the same user; both log in until the old one's end",
              replaced, _CHANGING, {200: _OUTCOME}, "certificates", (DRY_RUN,), _MESSAGE, _REPLACEMENT, (404, 422)),
    Operation("certificates_unmap", "POST", "/certificates/{name}/unmap", "Map it to nobody",
              unmapped, _CHANGING, {200: _OUTCOME}, "certificates", (DRY_RUN,), _MESSAGE, refusals=(404, 422)),
    Operation("certificates_shut_out", "POST", "/certificate-block",
              "Block a certificate that need not be on file: it is put there for it",
              shut_out, _CHANGING, {200: _OUTCOME}, "certificates", (DRY_RUN,), _MESSAGE, _ONE_CERTIFICATE, (422,)),
]  # fmt: skip
