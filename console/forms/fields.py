"""Form fields and the form that every noun's form is made of."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models.fields import BLANK_CHOICE_DASH
from django.forms.utils import flatatt
from django.template.loader import render_to_string
from django.utils.text import capfirst
from django.utils.translation import gettext, gettext_lazy

from console.nouns import label_of
from console.words import grouped, label_words
from gateway.core.paths import is_normal
from gateway.models import Port, PortType
from identity.core import files
from identity.core.certificates import CertificateError, from_der
from identity.core.files import Contents
from identity.models.english import English

DASHES = BLANK_CHOICE_DASH[0][1]
MAX_PROBLEMS = 10  # wrong lines of one field that are told at once


class LinesField(forms.CharField):
    """A list of texts, one a line; blank lines count for nothing.

    Args:
        check: raises ValueError, saying what would be right, for a line that is none; the error names the line.
    """

    def __init__(
        self, *, rows: int = 3, check: Callable[[str], object] | None = None, placeholder: str = "", **kwargs: Any
    ) -> None:
        kwargs.setdefault("required", False)
        self.check = check
        attrs = {"rows": rows, "class": "mono", "spellcheck": "false", "placeholder": placeholder}
        super().__init__(widget=forms.Textarea(attrs=attrs), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        lines: list[str] = []
        problems: list[str] = []
        for number, line in enumerate((value or "").splitlines(), 1):
            if not (text := line.strip()):
                continue
            try:
                if self.check is not None:
                    self.check(text)
            except ValueError as error:
                problems.append(f"Line {number}: {error}")
            lines.append(text)
        if problems:
            raise ValidationError(problems[:MAX_PROBLEMS])
        return lines


class PortsField(forms.MultipleChoiceField):
    """Ports, by name, where alone something may be used; none chosen: everywhere."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=forms.CheckboxSelectMultiple, **kwargs)

    def offer_ports(self) -> None:
        rows = Port.objects.exclude(type=PortType.REGISTRATION).select_related("node").order_by("node__name", "name")
        self.choices = [
            (row.name, gettext("{row} — {type}, on {node}").format(row=row.name, type=row.type, node=row.node))
            for row in rows
        ]

    def clean(self, value: Any) -> list[str]:
        return sorted(super().clean(value))


def check_path(text: str) -> None:
    """Raises ValueError unless `text` is a path that requests can have."""
    if not text.startswith("/") or not is_normal(text):
        raise ValueError(
            gettext("{text!r} is no path in normal form: it begins with a slash and has no dot segments.").format(
                text=text
            )
        )


class PemField(forms.Field):
    """A file or pasted text; its bytes. Two inputs: NAME_file beats NAME.

    Args:
        limit: bytes that are accepted.
        secret: what was pasted is not shown again, not even to who pasted it.
    """

    says_when = True  # its hint tells when it may be left empty, and "optional" would say that it always may

    def __init__(self, *, limit: int = files.MAX_FILE, secret: bool = False, **kwargs: Any) -> None:
        self.limit, self.secret = limit, secret
        super().__init__(widget=PemWidget(secret), **kwargs)

    def clean(self, value: Any) -> bytes | None:
        if isinstance(value, UploadedFile):
            if (value.size or 0) > self.limit:
                raise ValidationError(
                    gettext("The file has {size} bytes; at most {limit} are accepted.").format(
                        size=grouped(value.size), limit=grouped(self.limit)
                    )
                )
            data = value.read()
        else:
            data = (value or "").strip().encode()
            data = data + b"\n" if data else b""
        if not data:
            if self.required:
                raise ValidationError(gettext("Choose a file, or paste its text."))
            return None
        if len(data) > self.limit:
            raise ValidationError(
                gettext("The text has {count} bytes; at most {limit} are accepted.").format(
                    count=grouped(len(data)), limit=grouped(self.limit)
                )
            )
        return data


class PemWidget(forms.Widget):
    template_name = "parts/pem_widget.html"

    def __init__(self, secret: bool = False, attrs: Any = None) -> None:
        super().__init__(attrs)
        self.secret = secret

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return files.get(f"{name}_file") or data.get(name)

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and f"{name}_file" not in files

    def format_value(self, value: Any) -> str:
        # A private key that was pasted where a certificate belongs is not shown again either.
        shown = isinstance(value, str) and not self.secret and "PRIVATE KEY" not in value
        return value if shown else ""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> str:
        attrs = dict(attrs or {})
        context = {"name": name, "value": self.format_value(value), "id": attrs.pop("id", f"id_{name}")}
        return render_to_string(self.template_name, context | {"attributes": flatatt(attrs)})


def as_text(data: bytes) -> str:
    """Bytes of a `PemField` as they may be pasted: PEM as it is, one certificate in DER as PEM; "" for other files."""
    if b"-----BEGIN" in data:
        return "" if b"PRIVATE KEY" in data else data.decode("utf-8", "replace")
    try:
        return from_der(data).pem()
    except CertificateError:
        return ""


class FilePasswordField(forms.CharField):
    """Opens a file while it is read, and is kept nowhere."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("label", gettext_lazy("Its password"))
        kwargs.setdefault("help_text", gettext_lazy("Where it is a PKCS#12 file. Kept nowhere."))
        widget = forms.PasswordInput(attrs={"autocomplete": "off"})
        super().__init__(required=False, max_length=1024, strip=False, widget=widget, **kwargs)


class MomentField(forms.DateTimeField):
    """A date and a time, in the console's time zone, by the browser's own control."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(required=False, widget=widget, **kwargs)


def read_certificates(data: bytes, password: str | None = None) -> Contents:
    """A file with certificates in it. Raises ValidationError in the words of the parser."""
    try:
        return files.needed(files.read(data, password))
    except CertificateError as error:
        raise ValidationError(English(error)) from error


KEY_LEFT_OUT = gettext_lazy("The private key in the file was not kept. Consider it exposed if it was sent to you.")


def name_nothing(field: forms.Field) -> None:
    """A list in which nothing is chosen says so in words, and not by Django's row of dashes."""
    words = gettext("choose one") if field.required else gettext("none")
    match field:
        case forms.ModelChoiceField(empty_label=label) if label == DASHES:
            field.empty_label = words
        case forms.ChoiceField():
            listed = list(field.choices) if isinstance(field.widget, forms.Select) else []
            if ("", DASHES) in listed:
                field.choices = [("", words) if each == ("", DASHES) else each for each in listed]


def _is_asked_again(field: forms.Field, value: Any) -> bool:
    if isinstance(field, PemField):
        return field.secret or not as_text(value)
    return isinstance(field.widget, forms.PasswordInput)


class NounForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose fields stand in named groups, and whose model has the last word."""

    # Groups of fields: (legend, names, whether it can be folded, and is unless something in it is wrong). A tuple
    # of names stands in one row.
    groups: list[tuple[str, list[str | tuple[str, ...]], bool]] = []
    # One sentence on what is being edited, where the noun's own says too little.
    lede = ""
    # What the page that adds one is called, and its button, where the noun's own words say too little.
    adding: Any = ""
    # What an operator should know besides once it is saved.
    told: tuple[str, ...] = ()
    # How the model calls what the form calls otherwise: where its errors are shown.
    shown_at: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field, PortsField):
                field.offer_ports()
            name_nothing(field)
            widget = field.widget
            if isinstance(widget, forms.TextInput | forms.NumberInput):
                widget.attrs.setdefault("autocomplete", "off")

    def grouped(self) -> list[dict[str, Any]]:
        """For the template: each group with its rows of bound fields; what no group names comes first."""
        grouped = [(legend, [self._row(names) for names in rows], foldable) for legend, rows, foldable in self.groups]
        named = {field.name for _, rows, _ in grouped for row in rows for field in row}
        first = [[self[name]] for name in self.fields if name not in named]
        found = []
        for legend, rows, foldable in [("", first, False), *grouped]:
            if rows := [row for row in rows if row]:
                wrong = any(field.errors for row in rows for field in row)
                found.append({"legend": legend, "rows": rows, "foldable": foldable, "collapsed": not wrong})
        return found

    def _row(self, names: str | tuple[str, ...]) -> list[forms.BoundField]:
        return [self[name] for name in ((names,) if isinstance(names, str) else names) if name in self.fields]

    def fill(self) -> None:
        """Set on the instance what fields of the form's own say; before the model is asked."""

    def _post_clean(self) -> None:
        try:
            self.fill()
        except ValidationError as error:
            self.take_errors(error)
        super()._post_clean()  # type: ignore[misc]

    def carry_files(self) -> None:
        """Of a form that is shown again to be saved as it is: uploads become text; no browser sends them twice."""
        data = self.data.copy()  # type: ignore[attr-defined]
        for name, field in self.fields.items():
            if isinstance(field, PemField) and not field.secret and (value := self.cleaned_data.get(name)):
                data[self.add_prefix(name)] = as_text(value)
                self.files.pop(f"{self.add_prefix(name)}_file", None)
        self.data = data

    def typed_once(self) -> list[str]:
        """Labels of what was given and is not shown again: passwords, keys, files that are no text."""
        return [
            label_words(self[name].label)
            for name, field in self.fields.items()
            if (value := self.cleaned_data.get(name)) and _is_asked_again(field, value)
        ]

    def take_errors(self, error: ValidationError) -> None:
        """Show the model's word at the fields that it is about."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for name, errors in error.error_dict.items():
            if name == "name":
                errors = [self._taken() if each.code == "unique" else each for each in errors]
            name = self.shown_at.get(name, name)
            self.add_error(name if name in self.fields else None, errors)

    def _taken(self) -> ValidationError:
        """Django calls the object as the table is called, in every language."""
        words = gettext("{object} already exists; choose another name.")
        return ValidationError(capfirst(words.format(object=label_of(self.instance))), code="unique")

    def _update_errors(self, errors: ValidationError) -> None:
        self.take_errors(errors)
