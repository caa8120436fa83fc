"""A new token: what it is for, what it may, and until when."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from console.models import CONFIRMED, Operator, Token

WORDS = {
    "view": gettext_lazy("Look at everything but secrets"),
    "test_invoke": gettext_lazy("Test invokes and simulations"),
    "change_gateway": gettext_lazy("Change nodes, ports, services, APIs, endpoints, registrations"),
    "change_identity": gettext_lazy("Change users, groups, ACLs, certificates, mapping rules, stores"),
    "change_operators": gettext_lazy("Look at operators and change them"),
    "change_authority": gettext_lazy("Exchange the authority of nodes"),
    CONFIRMED: gettext_lazy(
        "What this console asks again for before: operators, keys, unblocking. It then lasts an hour"
    ),
}


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        help_text=gettext_lazy("What it is for: ci, backup, monitoring."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("It may"),
        widget=forms.CheckboxSelectMultiple,
        initial=["view"],
        help_text=gettext_lazy(
            "What changes something needs the first besides: each answer shows what was there before."
        ),
    )
    expires = forms.IntegerField(
        label=gettext_lazy("Days until it expires"), min_value=1, max_value=Token.LONGEST.days, initial=90,
        widget=forms.NumberInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip

    def __init__(self, operator: Operator, *args: Any) -> None:
        super().__init__(*args)
        choices = [(name, WORDS[name]) for name in WORDS if name == CONFIRMED or operator.may(name)]
        self.fields["scopes"].choices = choices  # type: ignore[attr-defined]

    @property
    def lifetime(self) -> timedelta:
        """Of a valid form: days, or the hour that one lasts which need not be asked again."""
        asked = timedelta(days=self.cleaned_data["expires"])
        return min(asked, Token.LONGEST_CONFIRMED) if CONFIRMED in self.cleaned_data["scopes"] else asked
