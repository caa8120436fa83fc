"""The OpenAPI document, made of the operations' own declarations and of the configuration file's readers."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from console.api import schemas
from console.api.operations import BASE, Operation
from console.api.paging import PAGING
from console.api.reading import MAX_MESSAGE, MESSAGE
from console.models import CONFIRMED
from gateway.topology.entries import SECTIONS
from gateway.topology.schema import NAME, schema_of

Schema = dict[str, Any]

_HEADERS: dict[str, Schema] = {
    "If-Match": {"description": "Only if it is still as this entity tag says.", "schema": {"type": "string"}},
    "If-None-Match": {"description": "`*`: only if there is none yet. A tag: only if it differs.",
                      "schema": {"type": "string"}},
    MESSAGE: {"description": "What it is for, in words, for the audit log.",
              "schema": {"type": "string", "maxLength": MAX_MESSAGE, "pattern": "^[ -~]*$"}},
}  # fmt: skip
_WORDS = {
    400: "The request cannot be read",
    401: "No token, or none that stands",
    403: "The token may not",
    404: "There is no such object",
    405: "Not with this method",
    409: "Something stands in the way",
    412: "It is not as the request takes for granted",
    413: "The body is too large",
    415: "The body is of another type",
    422: "What was sent can be read, and cannot be done",
    429: "Too many calls, or wrong tokens: `Retry-After` tells when to come again",
    500: "Something went wrong",
    503: "No answer, for now",
}
_ALWAYS = (400, 401, 403, 405, 429, 500, 503)
_DONE = {200: "Done", 201: "Added", 202: "Taken: `Location` tells how far it is", 204: "Done"}


def document(operations: Iterable[Operation]) -> Schema:
    paths: dict[str, Schema] = {}
    for each in operations:
        paths.setdefault(f"/{BASE}{each.path}", {})[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postern",
            "version": "1",
            "description": "Everything that the console's pages do, by the same services and checks. "
            "Entries are those of the configuration file.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _components(),
            "responses": {
                str(status): {
                    "description": words,
                    "content": {"application/problem+json": {"schema": schemas.component("problem")}},
                }
                for status, words in _WORDS.items()
            },
        },
    }


@cache
def _components() -> dict[str, Schema]:
    return {
        **{section: schema_of(section) for section in SECTIONS},
        "document": schemas.document(),
        "problem": schemas.PROBLEM,
        "change": schemas.CHANGE,
        "change_set": schemas.CHANGE_SET,
        "outcome": schemas.OUTCOME,
        "outlook": schemas.OUTLOOK,
        "lane": schemas.LANE,
    }


def _operation(operation: Operation) -> Schema:
    refusals = {*_ALWAYS, *operation.refusals, *((413, 415) if operation.body else ())}
    refusals |= {404} if "{" in operation.path else set()  # an argument that no object could be called by
    refusals |= {422} if PAGING[-1] in operation.queries else set()
    responses: Schema = {}
    for status, schema in operation.answers.items():
        content = {} if schema is None else {"content": {operation.gives: {"schema": schema}}}
        responses[str(status)] = {"description": _DONE[status], **content}
    if operation.method == "GET" and "If-None-Match" in operation.headers:
        responses["304"] = {"description": "It is as the tag says"}
    responses |= {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(refusals)}
    found: Schema = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": f"Takes {', '.join((*operation.permissions, *([CONFIRMED] if operation.confirmed else ())))}."
        + (" Costs: an operator has so many a minute, by all his tokens and on pages." if operation.costly else ""),
        "tags": [operation.tag],
        "parameters": [*_arguments(operation), *_queries(operation), *_headers(operation)],
        "responses": responses,
    }
    if operation.body is not None:
        content = {each: {"schema": operation.body} for each in operation.takes}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _arguments(operation: Operation) -> list[Schema]:
    schema = {
        "name": NAME,
        "number": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
        "id": {"type": "string", "format": "uuid"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "mark": schemas.MARK,
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": schema[name]}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]


def _queries(operation: Operation) -> list[Schema]:
    return [
        {
            "name": each.name,
            "in": "query",
            "description": each.words,
            "schema": each.schema,
            **({"required": True} if each.required else {}),
        }
        for each in operation.queries
    ]


def _headers(operation: Operation) -> list[Schema]:
    return [{"name": name, "in": "header", **_HEADERS[name]} for name in operation.headers]
