"""A new token: what it is for, what it may, and until when."""

from typing import Any

from django import forms

from console.models import PERMISSIONS, Operator, Token

WORDS = {
    "view": "Look at everything but secrets",
    "test_invoke": "Test invokes and simulations",
    "change_gateway": "Change nodes, ports, services, APIs, endpoints, registrations",
    "change_identity": "Change users, groups, ACLs, certificates, mapping rules, stores",
    "change_operators": "Look at operators",
}


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        help_text="What it is for: ci, backup, monitoring.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label="It may",
        widget=forms.CheckboxSelectMultiple,
        initial=["view"],
        help_text="What changes something needs the first besides: each answer shows what was there before.",
    )
    expires = forms.IntegerField(
        label="Days until it expires", min_value=1, max_value=Token.LONGEST.days, initial=90,
        widget=forms.NumberInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip

    def __init__(self, operator: Operator, *args: Any) -> None:
        super().__init__(*args)
        choices = [(name, WORDS[name]) for name in PERMISSIONS if operator.may(name)]
        self.fields["scopes"].choices = choices  # type: ignore[attr-defined]
