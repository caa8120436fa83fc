"""Whose way through the topology is lit, and where to. What is asked stands in the address."""

import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from console.ways import Asked
from gateway.core.paths import is_normal
from gateway.models import Port, PortType
from identity.models import Certificate, User
from identity.models.users import DEFAULT

_HEX = re.compile(r"[0-9A-Fa-f: ]{16,}")
MAX_NAMED = 3  # certificates that are named when a text means several


class WayForm(forms.Form):
    """One of a certificate and a user; both left empty, a caller without a credential."""

    _of_user: Certificate | None = None  # by which the chosen user logs in

    certificate = forms.CharField(
        required=False,
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": gettext_lazy("name, subject or fingerprint")}),
    )
    user = forms.CharField(required=False, max_length=255)
    port = forms.ChoiceField(required=False)
    path = forms.CharField(
        required=False,
        max_length=1024,
        widget=forms.TextInput(
            attrs={"placeholder": gettext_lazy("every path"), "class": "mono", "spellcheck": "false"}
        ),
    )

    def __init__(self, *args: Any, ports: Iterable[Port], **kwargs: Any) -> None:
        """`ports`: all that there are; of these may be chosen what is called by clients."""
        super().__init__(*args, **kwargs)
        called = [each.name for each in ports if each.enabled and each.type in (PortType.EXTERNAL, PortType.REGULAR)]
        choices = [("", gettext("every port")), *((name, name) for name in sorted(called))]
        self.fields["port"].choices = choices  # type: ignore[attr-defined]

    def clean_certificate(self) -> Certificate | None:
        text = self.cleaned_data["certificate"].strip()
        if not text:
            return None
        exact = Certificate.objects.filter(name=text).first()
        if exact is not None:
            return exact
        if _HEX.fullmatch(text):
            text = re.sub("[: ]", "", text).lower()
        found = list(Certificate.objects.matching(text).order_by("name")[: MAX_NAMED + 1])
        if not found:
            raise ValidationError(
                gettext("No certificate on file has {text!r} in its name, subject, names or fingerprint.").format(
                    text=text
                )
            )
        if len(found) > 1:
            names = ", ".join(row.name for row in found[:MAX_NAMED]) + (", …" if len(found) > MAX_NAMED else "")
            raise ValidationError(
                gettext("Several certificates match: {names}. Give the name of one.").format(names=names)
            )
        return found[0]

    def clean_user(self) -> User | None:
        name = self.cleaned_data["user"].strip()
        if not name:
            return None
        valid = Certificate.objects.logging_in().filter(user__name=name, not_after__gt=timezone.now())
        self._of_user = valid.select_related("user").first()
        if self._of_user is not None:
            return self._of_user.user
        row = User.objects.filter(name=name).first()
        if row is None:
            raise ValidationError(gettext("There is no user {name!r}.").format(name=name))
        if not row.password_hash and row.name != DEFAULT:
            raise ValidationError(
                gettext("{name} has no valid certificate on file and no password; choose a certificate.").format(
                    name=name
                )
            )
        return row

    def clean_path(self) -> str:
        path: str = self.cleaned_data["path"].strip()
        if path and not (path.startswith("/") and is_normal(path)):
            raise ValidationError(
                gettext("Begin with a slash; no dot segments, no double or encoded slashes, no query.")
            )
        return path

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("certificate") and data.get("user"):
            self.add_error("user", gettext("A caller shows one of the two: take away the certificate or the user."))
        return data

    def asked(self) -> Asked:
        data = self.cleaned_data
        return Asked(data["certificate"] or self._of_user, data["user"], data["port"], data["path"])
