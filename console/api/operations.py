"""An operation: what it is called, what it takes, who may, and what it does. Routes and the OpenAPI document are made
of these declarations, so that neither can say what the other does not.

Nobody is known here by a cookie: a bearer token alone speaks, and so no page elsewhere can make a browser ask.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, register_converter
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from console import pace, security_log, tokens
from console.api import problems
from console.api.checking import check
from console.api.problems import Refused
from console.api.reading import JSON, Query, body_of, check_type, message_of, query_of
from console.authentication import note_wrong_token, tokens_locked_until
from console.models import CONFIRMED, Token
from console.permissions import public
from console.views.pages import address_of
from identity.core.names import NAME_PATTERN

log = logging.getLogger("postern.api")

Schema = dict[str, Any]
BASE = "api/v1"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,512}=*")  # RFC 6750, section 2.1


@dataclass(frozen=True, slots=True)
class Answer:
    """`content`: None where there is no body; a text where the operation gives no JSON."""

    content: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One request, read and let in. `args`: of the address; `body`: where the operation takes one."""

    request: HttpRequest
    token: Token
    args: dict[str, Any]
    query: dict[str, Any]
    body: dict[str, Any]

    @property
    def actor(self) -> str:
        return self.token.operator.username

    @property
    def address(self) -> str | None:
        return address_of(self.request)

    @property
    def dry_run(self) -> bool:
        return bool(self.query.get("dry_run"))

    def message(self, usual: str) -> str:
        """For the audit log: what the client says that it is for, and by which token it was done."""
        return f"{message_of(self.request) or usual} (token {self.token})"

    def require(self, permission: str) -> None:
        """Raises Refused: the token, or its operator, may not."""
        if self.token.may(permission):
            return
        security_log.refused(self.request, f"{self.actor} by token {self.token}", f"it takes {permission}")
        whose = "token" if self.token.operator.may(permission) else "token's operator"
        raise _insufficient(f"The {whose} may not: this takes {permission}.", permission)

    def require_confirmed(self) -> None:
        """Raises Refused: before this the pages ask again who somebody is, and the token was not made for it."""
        if not self.token.is_confirmed:
            security_log.refused(self.request, f"{self.actor} by token {self.token}", f"it takes {CONFIRMED}")
            raise _insufficient(
                f"The console asks again for the password before this: it takes a token with the scope {CONFIRMED}.",
                CONFIRMED,
            )


@dataclass(frozen=True, slots=True)
class Operation:
    """What there is at one address by one method.

    Attributes:
        path: below the base, its arguments in braces.
        answers: schema of each status that is no refusal; None where there is no body.
        refusals: further statuses than those that every operation may answer with.
        body: schema of what is sent, which is looked at here unless it is a component, whose reader does.
        takes: what is sent where that is no JSON; it is read by whoever does it.
        gives: what is answered.
        confirmed: whether the pages ask again for the password before it.
        costly: whether it computes much, and is counted with what the operator's pages compute; a dry run is.
    """

    id: str
    method: str
    path: str
    summary: str
    run: Callable[[Call], Answer]
    permissions: tuple[str, ...]
    answers: dict[int, Schema | None]
    tag: str
    queries: tuple[Query, ...] = ()
    headers: tuple[str, ...] = ()
    body: Schema | None = None
    refusals: tuple[int, ...] = ()
    takes: tuple[str, ...] = (JSON,)
    gives: str = JSON
    confirmed: bool = False
    costly: bool = False


class _Name:
    regex = NAME_PATTERN

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class _Number(_Name):
    regex = "[0-9]{1,18}"  # what a column can hold

    def to_python(self, value: str) -> int:  # type: ignore[override]
        return int(value)


class _Trace(_Name):
    regex = "[0-9a-f]{32}"


class _Mark(_Name):
    regex = "[0-9a-f]{40}"


register_converter(_Name, "name")
register_converter(_Number, "number")
register_converter(_Trace, "trace")
register_converter(_Mark, "mark")
# Argument → its converter; all others are names.
_CONVERTERS = {"number": "number", "id": "uuid", "trace_id": "trace", "mark": "mark"}


def routes(operations: Iterable[Operation]) -> list[URLPattern]:
    by_path: dict[str, dict[str, Operation]] = {}
    for each in operations:
        by_path.setdefault(each.path, {})[each.method] = each
    return [path(BASE + _route(where), _view(found), name=_name(found)) for where, found in by_path.items()]


def _route(template: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: f"<{_CONVERTERS.get(match[1], 'name')}:{match[1]}>", template)


def _name(operations: dict[str, Operation]) -> str:
    return f"api-{next(iter(operations.values())).id}"


def _view(operations: dict[str, Operation]) -> Callable[..., HttpResponse]:
    @csrf_exempt
    @public
    def view(request: HttpRequest, **args: Any) -> HttpResponse:
        return guarded(lambda: _answer(request, operations, args))

    return view


def guarded(act: Callable[[], HttpResponse]) -> HttpResponse:
    """Whatever goes wrong is told as a problem; of what is wrong in here, no more than that."""
    try:
        return act()
    except Refused as refused:
        return problems.response(refused)
    except pace.TooOften as often:
        words = f"This operator or token has asked for all that is done in a minute; {often}."
        late = Refused(429, "too_often", words, headers={"Retry-After": str(often.seconds)})
        return problems.response(late)
    except OperationalError:
        log.exception("the database does not answer")
        busy = Refused(503, "unavailable", "The database is busy; try again.", headers={"Retry-After": "5"})
        return problems.response(busy)
    except Exception:  # a program that reads JSON is told in JSON
        log.exception("an operation failed")
        return problems.response(Refused(500, "failed", "Something went wrong here; the console's log tells what."))


def _answer(request: HttpRequest, operations: dict[str, Operation], args: dict[str, Any]) -> HttpResponse:
    if settings.CONSOLE_HTTPS and not request.is_secure():
        raise Refused(403, "https_needed", "Ask over HTTPS. The token has come in the clear: revoke it.")
    operation = operations.get("GET" if request.method == "HEAD" else str(request.method))
    if operation is None:
        allowed = ", ".join(sorted({*operations, *(["HEAD"] if "GET" in operations else [])}))
        raise Refused(405, "method_not_allowed", f"Here there is {allowed}.", headers={"Allow": allowed})
    call = Call(request, _authenticated(request), args, {}, {})
    for permission in operation.permissions:
        call.require(permission)
    if operation.confirmed:
        call.require_confirmed()
    call.query = query_of(request, operation.queries)
    if operation.body is not None:
        check_type(request, operation.takes)
        if JSON in operation.takes:
            call.body = body_of(request)
            if "properties" in operation.body:
                check(call.body, operation.body)
    if operation.costly or call.dry_run:
        pace.spend_costly(call.token.operator, time.time())
    answer = operation.run(call)
    if answer.content is None:
        return HttpResponse(status=answer.status, headers=answer.headers)
    if operation.gives != JSON:
        return HttpResponse(answer.content, f"{operation.gives}; charset=utf-8", answer.status, headers=answer.headers)
    return JsonResponse(answer.content, status=answer.status, headers=answer.headers, safe=False)


def _authenticated(request: HttpRequest) -> Token:
    """The token that speaks. Raises Refused."""
    address = address_of(request) or ""
    now = timezone.now()
    if (until := tokens_locked_until(address)) is not None:
        seconds = max(1, round((until - now).total_seconds()))
        raise Refused(
            429, "too_many_wrong_tokens", "Too many wrong tokens came from this address; wait.",
            headers={"Retry-After": str(seconds)},
        )  # fmt: skip
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise _unknown("A token is needed: Authorization: Bearer …", error="")
    text = text.strip()
    token = tokens.known(text) if _TOKEN.fullmatch(text) else None
    if token is None:
        note_wrong_token(address)
        raise _unknown("There is no such token.")
    if why := _stands_not(token, now):
        security_log.refused(request, f"{token.operator} by token {token}", why)
        raise _unknown(why)
    tokens.note_use(token, address or None, now)
    return token


def _stands_not(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "This token was revoked."
    if token.is_over(now):
        return f"This token is over since {token.expires_at:%Y-%m-%d %H:%M} UTC."
    return "" if token.operator.is_active else "The token's operator is disabled."


def _insufficient(detail: str, scope: str) -> Refused:
    told = f'Bearer realm="postern", error="insufficient_scope", scope="{scope}"'
    return Refused(403, "forbidden", detail, headers={"WWW-Authenticate": told})


def _unknown(detail: str, *, error: str = ', error="invalid_token"') -> Refused:
    return Refused(401, "unauthenticated", detail, headers={"WWW-Authenticate": f'Bearer realm="postern"{error}'})
