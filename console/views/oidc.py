"""Sign-on by the identity provider: out to it, and back."""

import logging
import time
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_safe

from console import oidc
from console.models import Operator, Role
from console.oidc import Client, Flow, SignOnFailed
from console.operators import entry_of, other_owners
from console.permissions import public
from console.sign_in import SINGLE_SIGN_ON, safe_next, sign_in
from gateway.audit import record_operators

log = logging.getLogger("postern.login")

COOKIE = "postern_sign_on"
_SECONDS = 600  # that a sign-on may take
_ACTOR = "single sign-on"


@public
@never_cache
@require_safe
def begin(request: HttpRequest) -> HttpResponse:
    """`?again`: the provider is to ask anew who it is."""
    client = _client()
    next_url = safe_next(request, request.GET.get("next", ""))
    try:
        url, flow = oidc.begin(client, _back(request), next_url, again="again" in request.GET, now=time.time())
    except SignOnFailed as error:
        return _failed(request, str(error))
    answer = redirect(url)
    # Lax, unlike the session's: the way back comes from another site. It opens nothing but this one page.
    answer.set_cookie(
        COOKIE,
        signing.dumps(flow.as_dict(), salt=COOKIE),
        max_age=_SECONDS,
        path=reverse("oidc-begin"),
        secure=settings.CONSOLE_HTTPS,
        httponly=True,
        samesite="Lax",
    )
    return answer


@public
@never_cache
@require_safe
@sensitive_variables()
def callback(request: HttpRequest) -> HttpResponse:
    client = _client()
    try:
        flow = Flow(**signing.loads(request.COOKIES.get(COOKIE, ""), salt=COOKIE, max_age=_SECONDS))
    except (signing.BadSignature, TypeError):
        return _failed(request, gettext("This sign-on was not begun here, or took too long. Begin again."))
    try:
        claims = oidc.finish(client, flow, request.GET.dict(), _back(request), now=time.time())
        operator = _operator(claims, client)
    except SignOnFailed as error:
        return _failed(request, str(error))
    sign_in(request, operator, SINGLE_SIGN_ON)
    # Not a redirect: it would still count as coming from the provider's site, and the new cookie would not be sent.
    answer = render(request, "account/continue.html", {"next": safe_next(request, flow.next_url)})
    answer.delete_cookie(COOKIE, path=reverse("oidc-begin"), samesite="Lax")
    return answer


def _client() -> Client:
    if not settings.CONSOLE_OIDC_ISSUER:
        raise Http404
    return Client(
        settings.CONSOLE_OIDC_ISSUER,
        settings.CONSOLE_OIDC_CLIENT_ID,
        settings.CONSOLE_OIDC_CLIENT_SECRET,
        tuple(settings.CONSOLE_OIDC_SCOPES),
    )


def _back(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("oidc-callback"))


def _failed(request: HttpRequest, problem: str) -> HttpResponse:
    log.warning("single sign-on refused: %s", problem)
    answer = render(request, "account/sign_on_failed.html", {"problem": problem}, status=403)
    answer.delete_cookie(COOKIE, path=reverse("oidc-begin"), samesite="Lax")
    return answer


# --- who it is here ---


@transaction.atomic
def _operator(claims: dict[str, Any], client: Client) -> Operator:
    """The operator of this subject, made where there is none yet. Raises SignOnFailed."""
    subject = f"{client.issuer} {claims['sub']}"
    row = Operator.objects.select_for_update().filter(single_sign_on=subject).first()
    if row is None:
        return _new(claims, subject)
    if not row.is_active:
        raise SignOnFailed(gettext("Your account here is disabled; an owner can enable it."))
    if settings.CONSOLE_OIDC_ROLE_CLAIM:
        _follow(row, _role(claims))
    return row


def _new(claims: dict[str, Any], subject: str) -> Operator:
    """Known by issuer and subject; a name that is taken is never taken over."""
    name = claims.get(settings.CONSOLE_OIDC_USERNAME_CLAIM)
    if Operator.objects.filter(username=name).exists():
        raise SignOnFailed(
            gettext("There is an operator {name} here, who logs in otherwise. An owner can rename that one.").format(
                name=name
            )
        )
    row = Operator(username=name if isinstance(name, str) else "", role=_role(claims), single_sign_on=subject)
    row.set_unusable_password()
    try:
        row.full_clean()
    except ValidationError as error:
        claim = settings.CONSOLE_OIDC_USERNAME_CLAIM
        raise SignOnFailed(
            gettext("The claim {claim} is no name that can be used here. {why}").format(
                claim=claim, why=" ".join(error.messages)
            )
        ) from error
    row.save()
    record_operators(_ACTOR, None, row.username, None, entry_of(row))
    return row


def _role(claims: dict[str, Any]) -> Role:
    """The highest that the claim gives; none where it gives none, or no claim was named."""
    values = oidc.values_of(claims, settings.CONSOLE_OIDC_ROLE_CLAIM) if settings.CONSOLE_OIDC_ROLE_CLAIM else set()
    given = {settings.CONSOLE_OIDC_ROLES[value] for value in values if value in settings.CONSOLE_OIDC_ROLES}
    return max((Role(each) for each in given), key=list(Role).index, default=Role.NONE)


def _follow(row: Operator, role: Role) -> None:
    if row.role == role or (row.role == Role.OWNER and not other_owners(row)):
        return
    before = entry_of(row)
    row.role = role
    row.save(update_fields=["role"])
    record_operators(_ACTOR, None, row.username, before, entry_of(row))


urls = [path("oidc/", begin, name="oidc-begin"), path("oidc/callback/", callback, name="oidc-callback")]
