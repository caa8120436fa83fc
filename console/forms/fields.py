"""Form fields and the form that every noun's form is made of."""

from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.files.uploadedfile import UploadedFile

from gateway.core.paths import is_normal
from identity.core import certificates
from identity.core.certificates import CertificateError


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    def __init__(self, *, rows: int = 3, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        super().__init__(widget=forms.Textarea(attrs={"rows": rows, "class": "mono", "spellcheck": "false"}), **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        return [line.strip() for line in (value or "").splitlines() if line.strip()]


class PathsField(LinesField):
    """As LinesField, for paths in normal form; an error names its line."""

    def to_python(self, value: Any) -> list[str]:
        lines = super().to_python(value)
        for number, line in enumerate(lines, 1):
            if not line.startswith("/") or not is_normal(line):
                raise ValidationError(f"Line {number}: {line!r} is no path in normal form; it begins with a slash.")
        return lines


class PemField(forms.Field):
    """A file or pasted text; its bytes. Two inputs: NAME_file beats NAME."""

    def __init__(self, *, limit: int = certificates.MAX_FILE, **kwargs: Any) -> None:
        self.limit = limit
        super().__init__(widget=PemWidget(), **kwargs)

    def clean(self, value: Any) -> bytes | None:
        if isinstance(value, UploadedFile):
            if (value.size or 0) > self.limit:
                raise ValidationError(f"The file has {value.size:,} bytes; at most {self.limit:,} are accepted.")
            data = value.read()
        else:
            data = (value or "").strip().encode()
            data = data + b"\n" if data else b""
        if not data:
            if self.required:
                raise ValidationError("Choose a file, or paste its text.")
            return None
        if len(data) > self.limit:
            raise ValidationError(f"The text has {len(data):,} bytes; at most {self.limit:,} are accepted.")
        return data


class PemWidget(forms.Widget):
    template_name = "parts/pem_widget.html"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        return files.get(f"{name}_file") or data.get(name)

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and f"{name}_file" not in files

    def format_value(self, value: Any) -> str:
        return value if isinstance(value, str) else ""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> str:
        from django.template.loader import render_to_string

        return render_to_string(
            self.template_name, {"name": name, "value": self.format_value(value), "attrs": attrs or {}}
        )


def parse_certificates(data: bytes) -> tuple[certificates.Certificate, ...]:
    """Raises ValidationError in the words of the parser."""
    try:
        return certificates.from_file(data)
    except CertificateError as error:
        raise ValidationError(str(error)) from error


class NounForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose fields stand in named groups, and whose model has the last word."""

    # (legend, fields, whether it can be folded, and is unless something in it is wrong)
    groups: list[tuple[str, list[str], bool]] = []
    # How the model calls what the form calls otherwise: where its errors are shown.
    shown_at: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            widget = field.widget
            if isinstance(widget, forms.TextInput | forms.NumberInput):
                widget.attrs.setdefault("autocomplete", "off")

    def grouped(self) -> list[dict[str, Any]]:
        """For the template: each group with its bound fields; what no group names comes first."""
        named = {name for _, names, _ in self.groups for name in names}
        first = [self[name] for name in self.fields if name not in named]
        found: list[dict[str, Any]] = (
            [{"legend": "", "fields": first, "foldable": False, "collapsed": False}] if first else []
        )
        for legend, names, foldable in self.groups:
            fields = [self[name] for name in names if name in self.fields]
            if fields:
                wrong = any(field.errors for field in fields)
                group = {"legend": legend, "fields": fields, "foldable": foldable, "collapsed": not wrong}
                found.append(group)
        return found

    def fill(self) -> None:
        """Set on the instance what fields of the form's own say; before the model is asked."""

    def _post_clean(self) -> None:
        try:
            self.fill()
        except ValidationError as error:
            self.take_errors(error)
        super()._post_clean()  # type: ignore[misc]

    def take_errors(self, error: ValidationError) -> None:
        """Show the model's word at the fields that it is about."""
        if not hasattr(error, "error_dict"):
            self.add_error(None, error)
            return
        for name, errors in error.error_dict.items():
            name = self.shown_at.get(name, name)
            self.add_error(name if name in self.fields else None, errors if name != NON_FIELD_ERRORS else errors)

    def _update_errors(self, errors: ValidationError) -> None:
        self.take_errors(errors)
