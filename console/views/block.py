"""Block and unblock with one click; and whom nodes refused lately, to map or to block."""

import base64
import binascii
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from console.blocking import SWITCHES, is_blocked, throw
from console.certificate_preview import proposed_name
from console.nodes import ask, enrolled
from console.nouns import label_of, permission_of, url_of
from console.permissions import permission_required, require
from console.sign_in import ask_again, is_fresh
from console.views.pages import address_of, operator_of
from gateway.audit import change_set
from gateway.core.reasons import BY_CODE, REASONS, ReasonInfo
from gateway.models import Node
from gateway.relay.control import ControlError
from gateway.topology.entries import KIND_OF, SECTIONS
from identity.core import files
from identity.core.certificates import Certificate as Parsed
from identity.core.certificates import CertificateError, from_der
from identity.models import Certificate, Usage

ASK_SECONDS = 1.5  # for a node to tell whom it refused
ASKED_AT_ONCE = 16
SHOWN = 100


@require_POST
def switch(request: HttpRequest, kind: str, pk: Any, block: bool) -> HttpResponse:
    """Block an object, or unblock it; only that lets somebody in, and asks again who does it."""
    require(request, permission_of(kind))
    if not block and not is_fresh(request):
        return ask_again(request)
    row = get_object_or_404(SECTIONS[kind], pk=pk)
    what = label_of(row)
    done = f"{what[0].upper()}{what[1:]} is {'blocked' if block else 'no longer blocked'}"
    try:
        with change_set(operator_of(request), done, address_of(request)):
            throw(row, block=block)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{done}.")
    return redirect(url_of(row) or "overview")


@require_POST
@permission_required("change_identity")
def block_pem(request: HttpRequest) -> HttpResponse:
    """Block a certificate that need not be on file: it is put there for it."""
    try:
        certificate = files.chain_from(request.POST.get("pem", "").encode())[0]
    except CertificateError as error:
        messages.error(request, f"The certificate was damaged on the way ({error}) Upload it again.")
        return redirect("certificates-add")
    row = Certificate.objects.speaking_for(certificate.sha256)
    if row is None:
        row = Certificate(name=proposed_name(certificate), description="Put on file to be blocked")
        row.set_certificate(certificate)
    done = f"Certificate {row} is blocked"
    try:
        with change_set(operator_of(request), done, address_of(request)):
            throw(row, block=True)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("certificates-add")
    messages.success(request, f"{done}.")
    return redirect("certificates-edit", row.pk)


# --- whom nodes refused ---


@dataclass(slots=True)
class Refused:
    """A certificate that was refused, the last time and how often. `on_file`: as what it is stored."""

    certificate: Parsed
    node: str
    port: str
    peer: str
    reason: ReasonInfo | None
    words: str
    at: datetime
    count: int
    on_file: Certificate | None = None
    chain: list[Parsed] = field(default_factory=list)

    @property
    def pem(self) -> str:
        return "".join(each.pem() for each in (self.certificate, *self.chain))

    @property
    def blocked(self) -> bool:
        return self.on_file is not None and is_blocked(self.on_file)


@require_GET
@permission_required("view")
def refused(request: HttpRequest) -> HttpResponse:
    """Certificates that nodes refused since they started, the last ones first."""
    nodes = list(Node.objects.all())
    rows, silent = refusals(nodes)
    return render(request, "certificates/refused.html", {"rows": rows, "silent": silent, "nodes": nodes})


def refusals(nodes: list[Node]) -> tuple[list[Refused], list[str]]:
    """What the nodes tell, and which of them do not."""
    elsewhere = enrolled()
    rows: list[Refused] = []
    silent: list[str] = []
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        for node, answer in zip(nodes, pool.map(lambda node: _ask(node, elsewhere), nodes), strict=True):
            if answer is None:
                silent.append(node.name)
            else:
                rows += [row for each in answer if (row := _read(node.name, each)) is not None]
    rows = sorted(rows, key=lambda row: row.at, reverse=True)[:SHOWN]
    stored = Certificate.objects.filter(sha256__in=[row.certificate.sha256 for row in rows]).select_related("user")
    # Of one that is there for several usages, the entry that logs in.
    by_sha256 = {row.sha256: row for row in sorted(stored, key=lambda row: row.usage == Usage.SSL_AUTHENTICATION)}
    for row in rows:
        row.on_file = by_sha256.get(row.certificate.sha256)
    return rows, silent


def _ask(node: Node, elsewhere: set[str]) -> list[dict[str, Any]] | None:
    """None where it does not tell."""
    try:
        answer = ask(node.name, {"op": "refusals"}, timeout=ASK_SECONDS, elsewhere=elsewhere)
    except ControlError:
        return None
    found: list[dict[str, Any]] = answer["refused"]
    return found


def _read(node: str, told: dict[str, Any]) -> Refused | None:
    """None for what cannot be read: it came from outside."""
    try:
        leaf, *above = [from_der(base64.b64decode(der)) for der in told["chain"]]
    except (CertificateError, binascii.Error, ValueError):
        return None
    reason = BY_CODE.get(told["reason"])
    return Refused(
        leaf, node, told["port"], told["peer"], REASONS[reason] if reason else None, told["words"],
        datetime.fromtimestamp(told["at"], UTC), told["count"], chain=above,
    )  # fmt: skip


urls = [
    path("certificates/refused/", refused, name="certificates-refused"),
    path("certificates/block/", block_pem, name="certificates-block-pem"),
    *(
        path(f"{kind}/<uuid:pk>/{word}/", switch, {"kind": kind, "block": block}, name=f"{kind}-{word}")
        for kind in (KIND_OF[model] for model in SWITCHES)
        for word, block in (("block", True), ("unblock", False))
    ),
]
