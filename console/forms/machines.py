"""What is asked before a bundle is made."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy

from gateway import enrolments
from gateway.core.addresses import split_host_port
from gateway.models import Node, Role
from identity.models.english import English


class BundleForm(forms.Form):
    """For an edge, where the console reaches it; for the others, nothing."""

    address = forms.CharField(
        label=gettext_lazy("Where the console reaches its registration port"),
        max_length=255,
        widget=forms.TextInput(attrs={"class": "mono", "placeholder": "edge.example:9443"}),
        help_text=gettext_lazy("HOST:PORT. The console dials there: nothing is opened from the DMZ inwards."),
    )

    def __init__(self, *args: Any, node: Node, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if node.role != Role.EDGE:
            del self.fields["address"]
            return
        enrolment = getattr(node, "enrolment", None)
        known = enrolments.addresses_of(node, enrolment.address if enrolment is not None else "")
        self.fields["address"].initial = known[0] if known else ""

    def clean_address(self) -> str:
        address: str = self.cleaned_data["address"].strip()
        try:
            split_host_port(address)
        except ValueError as error:
            raise ValidationError(English(error)) from error
        return address
