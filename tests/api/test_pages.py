"""The API does what the pages do: every address of the console has its operations here, or its reason to have none."""

import pytest

from console.api.operations import Operation
from console.api.urls import OPERATIONS
from console.models import PERMISSIONS, Role
from gateway.topology.entries import SECTIONS
from tests.console.test_access import ASKING, every_name, needed, needed_to_post

BY_ID = {operation.id: operation for operation in OPERATIONS}
# Page or action → the operations that do the same. Those of nouns follow the rule in `same_as`.
SAME = {
    "overview": ["state"],
    "overview-live": ["state"],
    "search": ["search"],
    "invoke": ["invoke", "simulate"],
    "changes": ["changes_list"],
    "changes-detail": ["changes_get"],
    "changes-undo": ["changes_undo"],
    "changes-keep": ["changes_keep"],
    "changes-take-back": ["changes_take_back"],
    "expiry": ["expiry"],
    "choices": ["users_list"],  # and that of every other kind, with `q`
    "refusals": ["refusals_list"],
    "refusals-detail": ["refusals_get"],
    "imports": ["imports_list", "imports_take"],
    "imports-detail": ["imports_get"],
    "imports-all": ["imports_carry_out"],
    "imports-good": ["imports_carry_out"],
    "imports-discard": ["imports_discard"],
    "imports-refused": ["imports_refused"],
    "tests": ["tests_list", "test_runs_list"],
    "tests-add": ["tests_put"],
    "tests-edit": ["tests_get", "tests_put", "tests_rename", "tests_results", "tests_curl"],
    "tests-delete": ["tests_delete"],
    "tests-run-all": ["test_runs_ask"],
    "tests-run": ["test_runs_get"],
    "ports-pair": ["apply"],  # both ports in one document: both or neither
    "nodes-enrol": ["nodes_machine", "nodes_enrol"],
    "nodes-disown": ["nodes_disown"],
    "authority": ["authority"],
    "authority-exchange": ["authority_exchange"],
    "authority-drop": ["authority_drop"],
    "certificates-add": ["certificates_preview", "certificates_put", "certificates_replace"],
    "certificates-refused": ["refused_certificates"],
    "certificates-block-pem": ["certificates_shut_out"],
    "certificates-unmap": ["certificates_unmap"],
    "certificates-pem": ["certificates_get"],
    **{f"{kind}-bulk": [f"{kind}_bulk"] for kind in ("certificates", "users", "registrations")},
    "keystores-generate": ["keystores_generate"],
    "keystores-renew": ["keystores_ask", "keystores_answer"],
    "keystores-swap": ["keystores_swap"],
    "keystores-drop": ["keystores_drop"],
    "keystores-request": ["keystores_request"],
    "keystores-pem": ["keystores_get"],
    "acls-edit": ["acls_get", "acls_put", "acls_rename", "acls_admission"],
    "mapping_rules-add": ["mapping_rules_preview", "mapping_rules_put"],
    "mapping_rules-edit": ["mapping_rules_get", "mapping_rules_preview", "mapping_rules_put", "mapping_rules_rename"],
    "truststores-edit": ["truststores_get", "truststores_put", "truststores_rename", "truststores_crl"],
    "operators": ["operators_list"],
    "operators-add": ["operators_put"],
    "operators-edit": ["operators_get", "operators_put", "operators_rename", "operators_sessions"],
    "operators-end-sessions": ["operators_end_sessions", "operators_end_session"],
    "operators-remove-factors": ["operators_remove_factors"],
    "operators-revoke-tokens": ["operators_revoke_tokens"],
    "account-tokens": ["tokens_list", "tokens_make"],
    "account-tokens-revoke": ["tokens_revoke"],
}
_PERSON = "proves who a person is, and a program is none"
WITHOUT = {
    "login": _PERSON,
    "login-second": _PERSON,
    "login-passkey": _PERSON,
    "logout": _PERSON,
    "oidc-begin": _PERSON,
    "oidc-callback": _PERSON,
    "confirm": _PERSON,
    "account": _PERSON,
    "account-authenticator": _PERSON,
    "account-authenticator-remove": _PERSON,
    "account-passkey": _PERSON,
    "account-passkey-remove": _PERSON,
    "account-recovery-codes": _PERSON,
    "account-language": "is how a person reads; programs are told the same in every language",
    "account-sessions-end": "ends logins of one's own; of others an owner, by operators_end_sessions",
    "start": "leads a person through what single operations do",
    "healthz": "is for programs already",
    "jwks": "is for programs already",
    "metrics": "is for programs already, with a token of its own",
}


def same_as(name: str) -> list[Operation]:
    if name in SAME:
        return [BY_ID[each] for each in SAME[name]]
    kind, _, page = name.rpartition("-")
    assert kind in SECTIONS, f"{name}: say in SAME which operation does it, or in WITHOUT why there is none"
    ahead = ["block", "unblock"]  # with `dry_run`, as of every change
    operations = {"list": ["list"], "add": ["put"], "edit": ["get", "put", "rename"], "ahead": ahead}.get(page, [page])
    return [BY_ID[f"{kind}_{each}"] for each in operations]


def with_operations() -> list[str]:
    return [name for name in every_name() if name not in WITHOUT]


def test_the_tables_name_nothing_that_is_gone() -> None:
    assert {*SAME, *WITHOUT} <= set(every_name())
    assert not set(SAME) & set(WITHOUT)


# What these take hangs on what they are about: tests/api/test_operations.
@pytest.mark.parametrize("name", sorted({*with_operations()} - {"ports-pair", "changes-undo"}))
def test_whoever_may_on_the_page_may_here_and_nobody_else(name: str) -> None:
    """The strongest operation takes what the page takes; where that is a login alone, a token has to `view`."""
    rank = list(Role).index
    operations = same_as(name)
    wanted = max(rank(PERMISSIONS[each or "view"]) for each in (needed(name), needed_to_post(name)))
    taken = max(rank(PERMISSIONS[each]) for operation in operations for each in operation.permissions)
    assert list(Role)[taken] == list(Role)[wanted]


# Pages that ask again for more than is grave. A program's token was made for keys and for letting people in.
ASKED_BY_THE_CHANGE = {
    "keystores-add", "keystores-edit", "keystores-delete", "certificates-unblock", "users-unblock",
    "registrations-unblock", "certificates-bulk", "users-bulk", "registrations-bulk", "imports-all", "imports-good",
}  # fmt: skip
ASKED_OF_PEOPLE_ALONE = {
    "keystores-renew": "its key is here, and an answer of another key is asked for",
    "keystores-swap": "what takes over was asked for when it came",
    "keystores-drop": "a key goes that nothing uses",
}


@pytest.mark.parametrize("name", sorted(ASKING - set(WITHOUT) - ASKED_BY_THE_CHANGE - set(ASKED_OF_PEOPLE_ALONE)))
def test_what_the_page_asks_again_for_takes_a_token_that_was_made_for_it(name: str) -> None:
    assert any(operation.confirmed for operation in same_as(name) if operation.method != "GET")
