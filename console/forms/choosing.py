"""Choosing one of many rows: of a few from a list, of thousands by typing the name.

No page carries ten thousand options. Where there are more than `LISTED`, the field is a text field: the browser
proposes the first names, a script asks for those that fit what is typed, and without a script the server answers what
it does not know with the names that are like it.
"""

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.forms.utils import flatatt
from django.template.loader import render_to_string
from django.utils.translation import gettext

from console.nouns import SINGULAR
from gateway.topology.entries import KIND_OF

LISTED = 50  # rows of which one is chosen from a list
PROPOSED = 20  # names that are proposed to who types


def like(rows: QuerySet[Any], text: str, count: int = PROPOSED) -> list[str]:
    """Names that begin with `text`, then those that have it in them."""
    begin = rows.filter(name__istartswith=text).order_by("name").values_list("name", flat=True)[:count]
    found = list(begin)
    if text and len(found) < count:
        inside = rows.filter(name__icontains=text).exclude(name__istartswith=text).order_by("name")
        found += inside.values_list("name", flat=True)[: count - len(found)]
    return found


class TypedName(forms.TextInput):
    """A text field that the browser completes. `proposed`: the names to begin with; `kind`: of what rows."""

    template = "parts/typed_name.html"

    def __init__(self, kind: str, proposed: list[str], attrs: Any = None) -> None:
        own = {"autocomplete": "off", "spellcheck": "false", "maxlength": 255, "data-choices": kind}
        super().__init__(own | (attrs or {}))
        self.proposed = proposed

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        attributes = self.build_attrs(self.attrs, attrs)
        listed = f"{attributes.get('id', name)}_names"
        context = {
            "attributes": flatatt({"type": "text", "name": name, "list": listed} | attributes),
            "value": "" if value is None else value,
            "list": listed,
            "proposed": self.proposed,
        }
        return render_to_string(self.template, context)


class NamedChoiceField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """One of the rows of `queryset`, by its key from a list or by its name; whichever is sent, both are understood."""

    _typed: bool | None = None  # not known before it is asked for

    def get_bound_field(self, form: Any, field_name: str) -> forms.BoundField:
        if self._typed is None:
            self._decide()
        return super().get_bound_field(form, field_name)

    def _decide(self) -> None:
        """How it is shown: not before, since forms narrow down `queryset` when the field is there already."""
        rows = list(self.queryset[: LISTED + 1])  # type: ignore[index]
        self._typed = len(rows) > LISTED
        if self._typed:
            # Only the name is asked for: what the label tells besides is on the page of the row.
            self.widget = TypedName(self._kind, [row.name for row in rows[:PROPOSED]], self.widget.attrs)
            self.widget.is_required = self.required
            empty = "" if self.required else self.empty_label or ""
            if empty:
                self.widget.attrs["placeholder"] = str(empty)
        else:
            nothing = [("", self.empty_label)] if self.empty_label is not None else []
            listed = [(super(NamedChoiceField, self).prepare_value(row), self.label_from_instance(row)) for row in rows]
            self.choices = [*nothing, *listed]

    @property
    def _kind(self) -> str:
        return KIND_OF[self._rows.model]

    @property
    def _rows(self) -> QuerySet[Any]:
        assert self.queryset is not None
        return self.queryset.all()

    def prepare_value(self, value: Any) -> Any:
        """The name where it is typed, of a row or of a key; what was typed stays as it was."""
        if not self._typed:
            return super().prepare_value(value)
        if isinstance(value, Model):
            return value.name  # type: ignore[attr-defined]
        row = self._by_key(value)
        return row.name if row is not None else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Model) or value in self.empty_values:
            return super().to_python(value)
        text = str(value).strip()
        named, keyed = self._rows.filter(name=text).first(), self._by_key(text)
        if named is not None and keyed is not None and named != keyed:
            raise ValidationError(
                gettext("{text} is the name of one and the key of another; rename the first.").format(text=text)
            )
        found = named or keyed
        if found is None:
            raise ValidationError(self._unknown(text))
        return found

    def _by_key(self, value: Any) -> Any:
        try:
            key = uuid.UUID(str(value))
        except ValueError:
            return None
        return self._rows.filter(pk=key).first()

    def _unknown(self, text: str) -> str:
        noun = SINGULAR[KIND_OF[self._rows.model]]
        known = like(self._rows, text, 8)
        if known:
            words = gettext("There is no {noun} {name} to choose. Like it: {known}.")
            return words.format(noun=noun, name=text, known=", ".join(known))
        words = gettext("There is no {noun} {name} to choose. Search for it on its page, or add it first.")
        return words.format(noun=noun, name=text)
