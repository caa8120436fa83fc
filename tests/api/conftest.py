"""A client of the API: in the name of an operator of some role, by a token of some scopes."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from console import tokens
from console.models import CONFIRMED, PERMISSIONS, Operator, Role
from tests.console.conftest import as_role, world

__all__ = ["as_role", "world"]


class Caller:
    """Sends JSON with a token; `ask` is what a program does."""

    def __init__(self, operator: Operator, scopes: list[str]) -> None:
        self.operator = operator
        name = f"t{operator.tokens.count() + 1}"
        self.token, self.text = tokens.create(operator, name, scopes, timedelta(hours=1), None)
        self._client = Client()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """`headers`: with underscores for hyphens."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Authorization": f"Bearer {self.text}"} | more
        if body is None:
            return self._client.generic(method, f"/api/v1{path}", headers=sent)
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return self._client.generic(method, f"/api/v1{path}", text, "application/json", headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self.ask("GET", path, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Any:
        return self.ask("PUT", path, body, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.ask("POST", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.ask("DELETE", path, **headers)


@pytest.fixture
def caller_of(db: None) -> Callable[..., Caller]:
    """`caller_of("viewer")`: with all that the role has, not asked again; `caller_of("owner", "view")`: with that
    alone."""

    def make(role: str, *scopes: str) -> Caller:
        operator = Operator.objects.filter(username=f"olga-{role}").first()
        operator = operator or Operator.objects.create_operator(f"olga-{role}", "a password of some words", Role(role))
        return Caller(operator, list(scopes) or [*(each for each in PERMISSIONS if operator.may(each)), CONFIRMED])

    return make


@pytest.fixture
def owner(caller_of: Callable[..., Caller]) -> Caller:
    return caller_of("owner")
