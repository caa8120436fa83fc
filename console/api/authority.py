"""The authority by which console and nodes know each other: how far its exchange is, beginning one, ending one."""

from typing import Any

from console.api.operations import Answer, Call, Operation
from console.api.problems import FieldError, Refused
from console.api.schemas import FLAG, MOMENT, TEXT, TEXTS, maybe, several, shape
from gateway import rotation
from gateway.core.enrolment import EnrolmentError
from gateway.models import NodeStatus
from gateway.rotation import Standing
from gateway.topology.entries import moment
from identity.core import authority


def about(call: Call) -> Answer:
    progress = rotation.progress()
    linked = dict(NodeStatus.objects.values_list("node__name", "linked"))
    signs, before = progress.signs, progress.before
    return Answer(
        {
            "signs": authority.fingerprint_of(signs) if signs else "",
            "ends": moment(signs.not_valid_after_utc) if signs else None,
            "before": authority.fingerprint_of(before) if before else "",
            "exchanging": progress.exchanging,
            "behind": progress.behind,
            "nodes": [
                {"name": name, "standing": standing.value, "linked": linked.get(name, False)}
                for name, standing in progress.standings.items()
            ],
        }
    )


def exchanged(call: Call) -> Answer:
    try:
        rotation.begin(call.actor, call.address)
    except EnrolmentError as error:
        raise Refused(409, "in_the_way", str(error)) from error
    return about(call)


def dropped(call: Call) -> Answer:
    try:
        rotation.drop_old(call.actor, call.address, giving_up=call.body.get("giving_up", ()))
    except EnrolmentError as error:
        told = [FieldError.of("giving_up", str(error))] if rotation.progress().exchanging else []
        raise Refused(409, "in_the_way", str(error), told) from error
    return about(call)


_NODE: dict[str, Any] = shape(
    name=TEXT, linked=FLAG,
    standing={
        "type": "string", "enum": [each.value for each in Standing],
        "description": "Its certificate is of the one that signs (current); of the one before, and it believes the "
        "new one (told) or not yet (untold); of neither (cut_off), or it has ended (ended): enrol it anew",
    },
)  # fmt: skip
_AUTHORITY = shape(
    signs={"type": "string", "description": "Fingerprint, SHA-256; empty before the first bundle"},
    ends=maybe(MOMENT), exchanging=FLAG, nodes=several(_NODE),
    before={"type": "string", "description": "Fingerprint of the one that is being exchanged; empty for none"},
    behind={**TEXTS, "description": "Nodes that would be cut off if the one before were dropped now"},
)  # fmt: skip
_DROP = {
    "type": "object",
    "properties": {
        "giving_up": {**TEXTS, "description": "Nodes that may be cut off, and are enrolled anew then; others may not"}
    },
    "additionalProperties": False,
}
_CHANGING = ("view", "change_authority")
OPERATIONS = [
    Operation("authority", "GET", "/authority", "The authority of nodes, and how far its exchange is",
              about, ("view",), {200: _AUTHORITY}, "nodes"),
    Operation("authority_exchange", "POST", "/authority/exchange",
              "Make another authority, which signs from now on; bundles that are out are worth nothing any more",
              exchanged, _CHANGING, {200: _AUTHORITY}, "nodes", refusals=(409,), confirmed=True),
    Operation("authority_drop", "POST", "/authority/drop", "Believe the authority before this one no longer",
              dropped, _CHANGING, {200: _AUTHORITY}, "nodes", body=_DROP, refusals=(409,), confirmed=True),
]  # fmt: skip
