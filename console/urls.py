"""Routes."""

from django.urls import URLPattern, path

from console.api import urls as api
from console.views import (
    account,
    ahead,
    block,
    bulk,
    certificates,
    changes,
    choices,
    confirm,
    expiry,
    imports,
    invoke,
    jwks,
    keystores,
    login,
    machines,
    oidc,
    operators,
    overview,
    refusals,
    saved_tests,
    search,
    start,
    tokens,
    trust,
    undo,
    where,
    who,
)

urlpatterns: list[URLPattern] = [
    *overview.urls,
    *search.urls,
    *invoke.urls,
    *saved_tests.urls,
    *start.urls,
    *who.urls,
    *block.urls,
    *ahead.urls,
    *refusals.urls,
    *bulk.urls,
    *certificates.urls,
    *where.urls,
    *machines.urls,
    *trust.urls,
    *keystores.urls,
    *changes.urls,
    *undo.urls,
    *login.urls,
    *oidc.urls,
    *confirm.urls,
    *expiry.urls,
    *imports.urls,
    *choices.urls,
    *account.urls,
    *operators.urls,
    *tokens.urls,
    *api.urls,
    path(".well-known/jwks.json", jwks.jwks, name="jwks"),
]

handler403 = "console.views.errors.forbidden"
handler404 = "console.views.errors.not_found"
