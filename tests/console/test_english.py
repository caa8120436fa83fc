"""What is said in English on a page of another language is marked as that, and still escaped; names have our nouns."""

from typing import Any

import pytest
from django.db.models import Model
from django.test import Client
from django.utils import translation
from django.utils.html import conditional_escape

from identity.models.english import English

GERMAN = {"headers": {"Accept-Language": "de"}}


def test_it_is_marked_where_another_language_is_read_and_escaped_in_both() -> None:
    words = English(ValueError("<b> & co"))
    assert (words, conditional_escape(words)) == ("<b> & co", "&lt;b&gt; &amp; co")
    with translation.override("de"):
        assert conditional_escape(str(words)) == '<span lang="en">&lt;b&gt; &amp; co</span>'
    assert f"{words}" == "<b> & co"


@pytest.mark.parametrize(
    ("kind", "data", "english"),
    [
        pytest.param("endpoints", {"name": "e", "url": "gopher://<x>"}, "https or reverse", id="a-models-own"),
        pytest.param("mapping_rules", {"name": "m", "san": "what<b>"}, "", id="of-a-field"),
        pytest.param("ports", {"name": "p", "bind": "nowhere"}, "", id="of-a-form"),
    ],
)
def test_a_parsers_words_are_marked_in_a_german_form(
    kind: str, data: dict[str, Any], english: str, owner: Client, world: dict[str, Model]
) -> None:
    url = f"/{kind}/add/" if kind != "ports" else "/ports/add/external/"
    node = {"node": world["nodes"].pk}
    answer = owner.post(url, data | node, **GERMAN)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert text.count('<span lang="en">') >= 2, "at the field, and where all is told"
    assert "<b>" not in text and "<x>" not in text
    assert '<span lang="en">' not in owner.post(url, data | node).content.decode()


@pytest.mark.parametrize(
    ("kind", "noun"), [("groups", "Gruppe"), ("users", "Benutzer"), ("mapping_rules", "Zuordnungsregel")]
)
def test_a_name_that_is_taken_is_told_by_our_noun(kind: str, noun: str, owner: Client, world: dict[str, Any]) -> None:
    name = world[kind].name
    text = owner.post(f"/{kind}/add/", {"name": name}, **GERMAN).content.decode()
    assert f"{noun} {name} gibt es schon" in text
    assert "already exists" not in text


def test_an_operators_too(owner: Client) -> None:
    text = owner.post("/operators/add/", {"username": "olivia-owner", "role": "viewer"}).content.decode()
    assert "There is an operator of this name already; choose another name." in text
