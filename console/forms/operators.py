"""Operators and their passwords."""

from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from console import passkeys
from console.models import Operator
from console.operators import bar, choose_password


class LoginForm(forms.Form):
    username = forms.CharField(
        max_length=150, widget=forms.TextInput(attrs={"autocomplete": "username", "autofocus": True})
    )
    password = forms.CharField(max_length=1024, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}))


class ConfirmForm(forms.Form):
    password = forms.CharField(max_length=1024, widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}))


class CodeForm(forms.Form):
    """A code of an authenticator app, or a recovery code."""

    code = forms.CharField(
        max_length=64,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autocapitalize": "off", "spellcheck": "false"}),
    )


class PasskeyForm(forms.Form):
    """`answer` is filled in by the browser's script."""

    name = forms.CharField(
        max_length=100,
        label=gettext_lazy("What you call it"),
        help_text=gettext_lazy("The device that it is in: work laptop, blue key."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    answer = forms.CharField(max_length=passkeys.MAX_ANSWER, widget=forms.HiddenInput)


class _NewPassword(forms.Form):
    new_password = forms.CharField(widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), max_length=1024)
    new_password_again = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}), max_length=1024
    )

    def check_new(self, operator: Operator) -> None:
        first, again = self.cleaned_data.get("new_password"), self.cleaned_data.get("new_password_again")
        if first != again:
            self.add_error("new_password_again", gettext("The two passwords differ; type the same twice."))
        elif first:
            try:
                password_validation.validate_password(first, operator)
            except ValidationError as error:
                self.add_error("new_password", error)


class PasswordForm(_NewPassword):
    """An operator's own password."""

    current_password = forms.CharField(
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}), max_length=1024
    )
    field_order = ["current_password", "new_password", "new_password_again"]

    def __init__(self, operator: Operator, *args: Any) -> None:
        super().__init__(*args)
        self.operator = operator

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.operator.check_password(data.get("current_password", "")):
            self.add_error("current_password", gettext("This is not your current password."))
        self.check_new(self.operator)
        new = data.get("new_password")
        if self.operator.one_time_password and new and new == data.get("current_password"):
            self.add_error("new_password", gettext("This is the one-time password: choose one that nobody else knows."))
        return data


class OperatorForm(_NewPassword, forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Operator
        fields = ["username", "full_name", "role", "is_active"]
        widgets = {"role": forms.RadioSelect}
        error_messages = {
            "username": {"unique": gettext_lazy("There is an operator of this name already; choose another name.")}
        }

    def __init__(self, *args: Any, by: Operator, **kwargs: Any) -> None:
        """`by`: who fills it in."""
        super().__init__(*args, **kwargs)
        self.by = by
        adding = self.instance._state.adding
        if self.instance.single_sign_on:
            del self.fields["new_password"], self.fields["new_password_again"]
            return
        for name in ("new_password", "new_password_again"):
            self.fields[name].required = adding
            if not adding:
                self.fields[name].help_text = gettext("Empty keeps it.")
        if self.instance.pk != by.pk:
            self.fields["new_password_again"].help_text = gettext("Good for one login, at which another one is chosen.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        self.check_new(self.instance)
        if reason := bar(self.instance, data.get("role", ""), bool(data.get("is_active")), self.by):
            raise ValidationError(reason)
        return data

    def save(self, commit: bool = True) -> Operator:
        if self.cleaned_data.get("new_password"):
            choose_password(self.instance, self.cleaned_data["new_password"], self.by)
        return super().save(commit)
