"""One action on several objects of a kind, chosen by name: one change, or none."""

from typing import Any

from console import bulk
from console.api.changing import DRY_RUN, carry_out
from console.api.operations import Answer, Call, Operation
from console.api.problems import FieldError, Refused
from console.api.schemas import component
from console.bulk import MOST, Action
from console.nouns import permission_of
from console.views.certificates import CERTIFICATES
from console.views.pages import Noun
from console.views.where import REGISTRATIONS
from console.views.who import USERS
from gateway.audit import Recorder
from identity.models import Group


def _act(noun: Noun) -> Any:
    def run(call: Call) -> Answer:
        action = next(each for each in noun.bulk if each.key == call.body["action"])
        group, names = _group(call, action), list(dict.fromkeys(call.body["names"]))

        def act(recorder: Recorder) -> None:
            rows = list(noun.model._default_manager.filter(name__in=names).order_by("name"))
            missing = sorted(set(names) - {row.name for row in rows})  # type: ignore[attr-defined]
            if missing:
                raise _refused("names", f'there is no {noun.singular} "{missing[0][:255]}"')
            try:
                bulk.carry_out(action, rows, group)
            except bulk.Refused as error:
                raise Refused(409, "in_the_way", str(error), [FieldError.of("names", str(error))]) from error

        message = bulk.done_words(action, noun.model, len(names), group)
        return Answer(carry_out(call, message, act, [noun.kind], section=noun.kind, status=409))

    return run


def _group(call: Call, action: Action) -> Group | None:
    name = call.body.get("group", "")
    if not action.wants_group:
        if name:
            raise _refused("group", f"{action.key} takes no group; leave it out")
        return None
    group = Group.objects.assignable().filter(name=name).first()
    if group is None:
        raise _refused("group", f'there is no group "{name[:255]}" to choose' if name else "is missing")
    return group


def _refused(field: str, text: str) -> Refused:
    return Refused(422, "invalid", "It cannot be done; nothing was changed.", [FieldError.of(field, text)])


def _body(noun: Noun) -> dict[str, Any]:
    group = {"group": {"type": "string", "maxLength": 255}} if any(each.wants_group for each in noun.bulk) else {}
    return {
        "type": "object",
        "properties": {
            "action": {"enum": [each.key for each in noun.bulk]},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 255}, "minItems": 1, "maxItems": MOST},
            **group,
        },
        "required": ["action", "names"],
        "additionalProperties": False,
    }


OPERATIONS = [
    Operation(f"{noun.kind}_bulk", "POST", f"/bulk/{noun.kind}",
              f"One action on several {noun.model._meta.verbose_name_plural}: one change, or none", _act(noun),
              ("view", permission_of(noun.kind)), {200: component("outcome")}, noun.kind, (DRY_RUN,),
              ("Change-Message",), _body(noun), (409, 422), costly=True)
    for noun in (CERTIFICATES, USERS, REGISTRATIONS)
]  # fmt: skip
