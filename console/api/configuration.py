"""Nouns of the configuration by name, and the whole of it: each represented as the configuration file has it."""

from collections.abc import Iterator
from typing import Any

from django.db.models import Model

from console.api.changing import DRY_RUN, carry_out
from console.api.conditions import BOTH, check, is_known, tag_of
from console.api.operations import BASE, Answer, Call, Operation
from console.api.paging import PAGING, TEXT, matching, page
from console.api.problems import FieldError, Refused, not_found, of_topology
from console.api.reading import Query
from console.api.schemas import RENAMING, component, entry, page_of
from console.blocking import SWITCHES, throw
from console.nouns import TITLES, label_of, permission_of
from console.renames import follow
from console.veil import veiled
from console.views import certificates, keystores, trust, where, who
from gateway import unconfirmed
from gateway.audit import Recorder
from gateway.models import Endpoint, Port
from gateway.topology.apply import remove, write
from gateway.topology.document import Problem, Topology, TopologyError, of_content
from gateway.topology.entries import KIND_OF, SECTIONS, entry_of, stored
from gateway.topology.export import content
from gateway.topology.oddities import oddities

_NOUNS = (
    who.USERS, who.GROUPS, who.ACLS, who.MAPPING_RULES, certificates.CERTIFICATES, keystores.KEYSTORES,
    trust.TRUSTSTORES, where.NODES, where.PORTS, where.SERVICES, where.APIS, where.ENDPOINTS, where.REGISTRATIONS,
)  # fmt: skip
_NOUN = {noun.kind: noun for noun in _NOUNS}
PRUNE = Query("prune", {"type": "boolean"}, "Delete what the document lacks, but for what is predefined.")
GOES_BACK = Query(
    "goes_back",
    {"type": "boolean"},
    f"Let the change go back by itself unless it is kept within {unconfirmed.SECONDS} seconds.",
)
_OUTCOME = component("outcome")


def shown(call: Call, row: Model) -> dict[str, Any]:
    """The entry, as far as it is told to who asks."""
    return veiled(KIND_OF[type(row)], entry_of(row), call.token.may)


def etag(call: Call, row: Model) -> str:
    return tag_of(shown(call, row))


def write_of_others(document: Topology, recorder: Recorder, *, prune: bool = False) -> None:
    """What an operator sends, who is not trusted with what is stored. Raises TopologyError: nothing may be kept."""
    problems = []
    for sent in document.sections.get("endpoints", []):
        row = Endpoint.objects.filter(name=sent["name"]).first() if isinstance(sent.get("password"), dict) else None
        if row is not None and (where := row.keeps_password_from(str(sent.get("url", "")))):
            words = f"what is stored was given for {where}; give it again, in the clear, to send it elsewhere"
            problems.append(Problem("endpoints", row.name, "password", words))
    if problems:
        raise TopologyError(problems)
    write(document, recorder, prune=prune)


# --- one noun ---


class _Noun:
    """The operations of one section."""

    def __init__(self, section: str) -> None:
        self.section, self.model = section, SECTIONS[section]
        self.noun, self.page = str(self.model._meta.verbose_name), _NOUN[section]

    def operations(self) -> list[Operation]:
        section, one = self.section, f"/{self.section}/{{name}}"
        changing = ("view", permission_of(section))
        article = "an" if self.noun[0] in "aeiouA" else "a"
        found = [
            Operation(f"{section}_list", "GET", f"/{section}/", f"{TITLES[section]}, in the order of their names",
                      self.listed, ("view",), {200: page_of(entry(section))}, section,
                      (TEXT, *self._show(), *PAGING)),
            Operation(f"{section}_get", "GET", one, f"One {self.noun}", self.get, ("view",), {200: entry(section)},
                      section, headers=("If-None-Match",), refusals=(404,)),
            Operation(f"{section}_put", "PUT", one, f"Add {article} {self.noun}, or make it equal to this",
                      self.put, changing, {200: _OUTCOME, 201: _OUTCOME}, section,
                      (DRY_RUN, *((GOES_BACK,) if self.model is Port else ())),
                      (*BOTH, "Change-Message"), entry(section), (409, 412, 422)),
            Operation(f"{section}_delete", "DELETE", one, f"Delete {article} {self.noun} that nothing uses",
                      self.delete, changing, {200: _OUTCOME}, section,
                      (DRY_RUN, *((GOES_BACK,) if self.model is Port else ())), ("If-Match", "Change-Message"),
                      refusals=(404, 409, 412)),
            Operation(f"{section}_rename", "POST", f"{one}/rename", "Give it another name; what names it follows",
                      self.renamed, changing, {200: _OUTCOME}, section,
                      (DRY_RUN, *((GOES_BACK,) if self.model is Port else ())), ("If-Match", "Change-Message"),
                      RENAMING, (404, 409, 412, 422)),
        ]  # fmt: skip
        if self.model in SWITCHES:
            found += [
                Operation(f"{section}_{word}", "POST", f"{one}/{word}", f"{word.capitalize()} {article} {self.noun}",
                          self.switch(block=word == "block"), changing, {200: _OUTCOME}, section, (DRY_RUN,),
                          ("Change-Message",), refusals=(404, 409))
                for word in ("block", "unblock")
            ]  # fmt: skip
        return found

    def _show(self) -> Iterator[Query]:
        if self.page.filters:
            yield Query("show", {"enum": list(self.page.filters)}, "Only these, as the list of the console shows them.")

    def listed(self, call: Call) -> Answer:
        rows = stored(self.model)
        if text := call.query.get("q", "").strip():
            rows = matching(rows, text, self.page.search)
        if "show" in call.query:
            rows = rows.filter(self.page.filters[call.query["show"]][1])
        return Answer(page(rows, call.query, "name", lambda row: shown(call, row)))

    def get(self, call: Call) -> Answer:
        row = self._row(call)
        tag = etag(call, row)
        if is_known(call.request, tag):
            return Answer(None, 304, {"ETag": tag})
        return Answer(shown(call, row), headers={"ETag": tag})

    def put(self, call: Call) -> Answer:
        name = call.args["name"]
        if call.body.get("name", name) != name:
            told = FieldError("name", "is another than the address has", "write the same, or leave it out")
            raise Refused(422, "invalid", "It cannot be stored; nothing was changed.", [told])
        document = of_content({"version": 1, self.section: [call.body | {"name": name}]}, None)
        added: list[bool] = []

        def act(recorder: Recorder) -> None:
            row = stored(self.model).filter(name=name).first()
            added.append(row is None)
            check(call.request, etag(call, row) if row is not None else "")
            _check_waits(self.section, row)
            write_of_others(document, recorder)

        def warnings() -> list[str]:
            return [each for each in oddities() if each.startswith(f"{self.section}[{name}]")] if call.dry_run else []

        done = "added" if not self._exists(name) else "changed"
        told = carry_out(
            call, f"{self.noun} {name} {done}", act, [self.section], section=self.section, name=name, warnings=warnings,
            goes_back=bool(call.query.get("goes_back")),
        )  # fmt: skip
        if call.dry_run:
            return Answer(told)
        headers = {"ETag": etag(call, self._row(call))}
        if added[-1]:
            return Answer(told, 201, headers | {"Location": f"/{BASE}/{self.section}/{name}"})
        return Answer(told, headers=headers)

    def renamed(self, call: Call) -> Answer:
        """PUT under another name would add another, and what is meant by the old one would stay so."""
        before, name = call.args["name"], call.body["name"]
        rows: list[Any] = []

        def act(recorder: Recorder) -> None:
            row = self._row(call)
            check(call.request, etag(call, row))
            _check_waits(self.section, row)
            row.name = name
            row.save()
            follow(row, before)
            rows.append(row)

        told = carry_out(
            call, f"{self.noun} {before} is called {name} now", act, [self.section], section=self.section, name=before,
            goes_back=bool(call.query.get("goes_back")),
        )  # fmt: skip
        if call.dry_run:
            return Answer(told)
        return Answer(told, headers={"ETag": etag(call, rows[-1]), "Location": f"/{BASE}/{self.section}/{name}"})

    def delete(self, call: Call) -> Answer:
        name = call.args["name"]

        def act(recorder: Recorder) -> None:
            row = self._row(call)
            check(call.request, etag(call, row))
            _check_waits(self.section, row)
            remove(self.section, name, recorder)

        told = carry_out(
            call, f"{self.noun} {name} deleted", act, [self.section], section=self.section, name=name, status=409,
            goes_back=bool(call.query.get("goes_back")),
        )  # fmt: skip
        return Answer(told)

    def switch(self, *, block: bool) -> Any:
        def run(call: Call) -> Answer:
            def act(recorder: Recorder) -> None:
                throw(self._row(call), block=block)

            what = label_of(self._row(call))
            message = f"{what[0].upper()}{what[1:]} is {'blocked' if block else 'no longer blocked'}"
            return Answer(carry_out(call, message, act, [self.section], section=self.section, status=409))

        return run

    def _row(self, call: Call) -> Any:
        row = stored(self.model).filter(name=call.args["name"]).first()
        if row is None:
            raise not_found(f"There is no {self.noun} of this name.")
        return row

    def _exists(self, name: str) -> bool:
        return self.model._default_manager.filter(name=name).exists()


def _check_waits(section: str, row: Model | None) -> None:
    """While a change of it waits to be confirmed, another would stand in its way back. Raises Refused."""
    waits = unconfirmed.waiting_for(section, row.pk) if row is not None else None
    if waits is not None:
        words = f"Change {waits.pk} of it waits to be confirmed: keep it, or take it back, first."
        raise Refused(409, "change_waits", words)


# --- the whole ---


def apply(call: Call) -> Answer:
    prune = bool(call.query.get("prune"))
    try:
        document = of_content(call.body, None)
    except TopologyError as error:
        raise of_topology(error.problems, "", "") from error
    sections = list(SECTIONS) if prune else list(document.sections)
    for permission in dict.fromkeys(permission_of(section) for section in sections):
        call.require(permission)
    return Answer(
        carry_out(
            call,
            f"configuration applied{', what it lacks deleted' if prune else ''}",
            lambda recorder: write_of_others(document, recorder, prune=prune),
            sections,
            warnings=oddities,
        )
    )


def export(call: Call) -> Answer:
    return Answer(
        {
            section: [veiled(section, entry, call.token.may) for entry in entries] if section in SECTIONS else entries
            for section, entries in content().items()
        }
    )


OPERATIONS = [
    *(operation for section in SECTIONS for operation in _Noun(section).operations()),
    Operation("apply", "POST", "/apply", "Make what is stored equal to this; all of it, or nothing",
              apply, ("view",), {200: _OUTCOME}, "configuration", (PRUNE, DRY_RUN), ("Change-Message",),
              component("document"), (422,), costly=True),
    Operation("export", "GET", "/export", "The whole configuration but for what is predefined, without secrets",
              export, ("view",), {200: component("document")}, "configuration", costly=True),
]  # fmt: skip
