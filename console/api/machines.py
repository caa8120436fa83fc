"""Nodes on machines of their own: what is known of each, its bundle, and believing it no longer."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from console.api.operations import Answer, Call, Operation
from console.api.problems import FieldError, Refused, not_found, of_form
from console.api.schemas import FLAG, MOMENT, TEXT, maybe, shape
from console.forms.machines import BundleForm
from gateway import enrolments, rotation
from gateway.core.enrolment import LIFETIME, EnrolmentError
from gateway.models import Enrolment, Node, NodeStatus
from gateway.topology.entries import moment


def about(call: Call) -> Answer:
    node = _node(call)
    row = Enrolment.objects.filter(node=node).first()
    status = NodeStatus.objects.filter(node=node).first() if row is not None and row.is_enrolled else None
    return Answer(
        {
            "address": row.address if row else "",
            "awaited": row is not None and row.is_awaited(),
            "bundle_ends": moment(row.bundle_ends) if row else None,
            "enrolled": row is not None and row.is_enrolled,
            "lost": row is not None and row.is_enrolled and node.name in rotation.lost(),
            "serial": row.serial if row else "",
            "certificate_ends": moment(row.certificate_ends) if row else None,
            "disowned_at": moment(row.disowned_at) if row else None,
            "link": _link(status) if status else None,
        }
    )


def _link(status: NodeStatus) -> dict[str, Any]:
    return {
        "linked": status.linked,
        "since": moment(status.since),
        "heard": moment(status.heard),
        "revision": status.revision,
        "problem": status.problem,
    }


def enrolled(call: Call) -> Answer:
    """The bundle is on this answer, and nowhere else from then on."""
    node = _node(call)
    form = BundleForm(call.body, node=node)
    known = form.fields["address"].initial if "address" in form.fields else ""
    if known and "address" not in call.body:
        form = BundleForm({"address": known}, node=node)
    if not form.is_valid():
        raise of_form(form)
    address = form.cleaned_data.get("address", "")
    now = timezone.now()
    try:
        bundle = enrolments.offer(node, call.actor, call.address, address=address, now=now)
    except EnrolmentError as error:
        told = [FieldError.of("", str(error))]
        raise Refused(422, "invalid", "It cannot be done; nothing was changed.", told) from error
    return Answer({"bundle": bundle.text(), "ends": moment(now + timedelta(seconds=LIFETIME))})


def disowned(call: Call) -> Answer:
    enrolments.disown(_node(call), call.actor, call.address)
    return about(call)


def _node(call: Call) -> Node:
    node = Node.objects.filter(name=call.args["name"]).first()
    if node is None:
        raise not_found("There is no node of this name.")
    return node


_LINK = shape(
    linked=FLAG, since=maybe(MOMENT), heard=maybe(MOMENT), problem=TEXT,
    revision={"type": "integer", "description": "In force there; -1: none"},
)  # fmt: skip
_MACHINE = shape(
    address=TEXT, awaited=FLAG, bundle_ends=maybe(MOMENT), enrolled=FLAG, serial=TEXT, certificate_ends=maybe(MOMENT),
    disowned_at=maybe(MOMENT), link=maybe(_LINK),
    lost={**FLAG, "description": "It counts as enrolled and cannot come back: what it would show is believed no more"},
)  # fmt: skip
_ASKED = {
    "type": "object",
    "properties": {
        "address": {"type": "string", "maxLength": 255,
                    "description": "Of an edge: HOST:PORT where the console reaches its registration port; left out: "
                    "where that is known to be"}
    },
    "additionalProperties": False,
}  # fmt: skip
_BUNDLE = shape(bundle={"type": "string", "description": "Shown this once"}, ends=MOMENT)
_CHANGING, _ONE = ("view", "change_identity"), "/nodes/{name}"
OPERATIONS = [
    Operation("nodes_machine", "GET", f"{_ONE}/machine", "What is known of the machine that the node runs on",
              about, ("view",), {200: _MACHINE}, "nodes", refusals=(404,)),
    Operation("nodes_enrol", "POST", f"{_ONE}/enrol",
              "A bundle with which a machine becomes the node; one that was made before is worth nothing any more",
              enrolled, _CHANGING, {200: _BUNDLE}, "nodes", body=_ASKED, refusals=(404, 422),
              confirmed=True, costly=True),
    Operation("nodes_disown", "POST", f"{_ONE}/disown",
              "Believe the node's machine no longer; its bundle is worth nothing either",
              disowned, _CHANGING, {200: _MACHINE}, "nodes", refusals=(404,)),
]  # fmt: skip
