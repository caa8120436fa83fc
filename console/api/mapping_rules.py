"""A mapping rule before it is stored: whom of those on file it would let in, refuse or make somebody else."""

from typing import Any

from console.api.configuration import write_of_others
from console.api.operations import Answer, Call, Operation
from console.api.problems import of_topology
from console.api.schemas import COUNT, FLAG, FOUND, MARKS, TEXT, TEXTS, entry, several, shape
from console.foresight import Foresight, foresee
from gateway.audit import change_set
from gateway.topology.apply import telling_problems
from gateway.topology.document import TopologyError, of_content
from identity.models import MappingRule

_SECTION = "mapping_rules"


def previewed(call: Call) -> Answer:
    return Answer(_told(foresee(_draft(call))))


def _draft(call: Call) -> MappingRule:
    """The rule as PUT would store it, which is taken back. Raises Refused."""
    name = call.args["name"]
    try:
        document = of_content({"version": 1, _SECTION: [call.body | {"name": name}]}, None)
        with telling_problems(), change_set(call.actor, "looked at, and taken back", dry_run=True) as recorder:
            write_of_others(document, recorder)
            return MappingRule.objects.select_related("user").get(name=name)
    except TopologyError as error:
        raise of_topology(error.problems, _SECTION, name) from error


def _told(found: Foresight) -> dict[str, Any]:
    return {
        "matches": found.matches,
        "fates": [
            {"mark": each.mark, "text": each.words, "count": each.count, "certificates": each.examples}
            for each in found.fates
        ],
        "rules": [{"mark": each.mark, "text": each.text} for each in found.rules],
        "by_issuer": found.by_issuer,
        "grave": found.grave,
    }


_PREVIEW = shape(
    matches=COUNT,
    fates={
        "description": "Of certificates on file that it matches, or matched: what becomes of how many, and of which.",
        **several(shape(mark=MARKS, text=TEXT, count=COUNT, certificates=TEXTS)),
    },
    rules={"description": "How it stands to other rules, whatever is on file.", **several(FOUND)},
    by_issuer={"description": "Whether it names an issuer, which only a port verifies.", **FLAG},
    grave={"description": "Whether somebody would be refused, or run as somebody else, who is not now.", **FLAG},
)
OPERATIONS = [
    Operation("mapping_rules_preview", "POST", f"/{_SECTION}/{{name}}/preview",
              "What a mapping rule of this name would do, as it is sent; nothing is stored",
              previewed, ("view", "change_identity"), {200: _PREVIEW}, _SECTION, body=entry(_SECTION), refusals=(422,),
              costly=True),
]  # fmt: skip
