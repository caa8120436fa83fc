"""What is wrong, as a problem document (RFC 9457): the same shape for everything that the API refuses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ValidationError
from django.forms import BaseForm
from django.http import HttpResponse, JsonResponse

from gateway.topology.document import Problem

CONTENT_TYPE = "application/problem+json"
MOST = 200  # errors that are told of one request


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong. `field`: where, "" for the whole; `remedy`: what would be right, where that is known."""

    field: str
    problem: str
    remedy: str = ""

    @classmethod
    def of(cls, field: str, text: str) -> "FieldError":
        """From the words of a form or of a file's reader: first what is wrong, then what would be right."""
        problem, _, remedy = " ".join(text.split()).partition("; ")
        return cls(field, problem, remedy)


class Refused(Exception):
    """Ends the request; nothing was changed. `code` is for programs, and never renamed."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.errors, self.headers = list(errors), dict(headers or {})


def response(refused: Refused) -> HttpResponse:
    status = refused.status
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": refused.code,
        "detail": refused.detail,
    }
    if refused.errors:
        document["errors"] = [
            {"field": each.field, "problem": each.problem} | ({"remedy": each.remedy} if each.remedy else {})
            for each in refused.errors[:MOST]
        ]
    return JsonResponse(document, status=status, headers=refused.headers, content_type=CONTENT_TYPE)


def malformed(detail: str, field: str = "") -> Refused:
    """The request itself cannot be read."""
    return Refused(400, "malformed", detail, [FieldError.of(field, detail)] if field else ())


def not_found(detail: str) -> Refused:
    return Refused(404, "not_found", detail)


def of_topology(problems: Iterable[Problem], section: str, name: str, *, status: int = 422) -> Refused:
    """`section`, `name`: the entry that the request is about; fields of others are told with their place."""
    errors = []
    for each in problems:
        own = (each.section, each.entry) == (section, name)
        where = "" if own else each.section + (f"[{each.entry}]" if each.entry else "")
        errors.append(FieldError.of(".".join(part for part in (where, each.field) if part), each.text))
    code, words = ("in_the_way", "Something stands in the way") if status == 409 else ("invalid", "It cannot be stored")
    return Refused(status, code, f"{words}; nothing was changed.", errors)


def of_validation(error: ValidationError, *, status: int = 422) -> Refused:
    if hasattr(error, "error_dict"):
        errors = [FieldError.of(field, text) for field, texts in error.message_dict.items() for text in texts]
    else:
        errors = [FieldError.of("", text) for text in error.messages]
    code = "in_the_way" if status == 409 else "invalid"
    return Refused(status, code, "It cannot be done; nothing was changed.", errors)


def of_form(form: BaseForm, called: Mapping[str, str] | None = None) -> Refused:
    """`called`: what the request calls otherwise than the form."""
    names = {"__all__": ""} | dict(called or {})
    errors = [
        FieldError.of(names.get(field, field), str(text)) for field, texts in form.errors.items() for text in texts
    ]
    return Refused(422, "invalid", "It cannot be done; nothing was changed.", errors)
