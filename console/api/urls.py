"""Routes of the API. Whatever is below `/api/` and none of them is answered in the API's own words."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt

from console.api import (
    answers,
    authority,
    bulk,
    certificates,
    configuration,
    history,
    imports,
    keystores,
    machines,
    mapping_rules,
    operators,
    refusals,
    saved_tests,
    searching,
    state,
    truststores,
)
from console.api.openapi import document
from console.api.operations import BASE, guarded, routes
from console.api.problems import Refused, not_found
from console.permissions import public

_MODULES = (
    configuration, certificates, mapping_rules, keystores, truststores, machines, authority, bulk, imports, answers,
    saved_tests, history, state, refusals, searching, operators,
)  # fmt: skip
OPERATIONS = [operation for module in _MODULES for operation in module.OPERATIONS]


@csrf_exempt
@public
def openapi(request: HttpRequest) -> HttpResponse:
    """The same in every installation: for everybody."""

    def answer() -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "method_not_allowed", "Here there is GET, HEAD.", headers={"Allow": "GET, HEAD"})
        return JsonResponse(document(OPERATIONS))

    return guarded(answer)


@csrf_exempt
@public
def nothing(request: HttpRequest, **_: Any) -> HttpResponse:
    def answer() -> HttpResponse:
        raise not_found(f"There is nothing here; /{BASE}/openapi.json tells what there is.")

    return guarded(answer)


urls = [
    path(f"{BASE}/openapi.json", openapi, name="api-openapi"),
    *routes(OPERATIONS),
    re_path(r"^api(?:/|\Z)", nothing, name="api-nothing"),
]
