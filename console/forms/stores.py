"""Truststores and registrations: nouns that hold certificates. Keystores have a module of their own."""

from functools import cached_property
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import prefetch_related_objects
from django.utils.translation import gettext, gettext_lazy

from console.forms.fields import (
    KEY_LEFT_OUT,
    FilePasswordField,
    LinesField,
    NounForm,
    PemField,
    check_path,
    read_certificates,
)
from gateway.models import Node, Port, PortType, Registration, Role
from identity.core import certificates, files
from identity.core.certificates import CertificateError
from identity.core.chains import load_crl
from identity.core.profile import fault_of_anchor
from identity.models import Keystore, MappingRule, Truststore
from identity.models.english import English
from identity.models.truststores import (
    LONGEST,
    SHORTEST,
    RevocationList,
    RevocationSource,
    TrustedCertificate,
    check_url,
    fetch_from,
)

OF_OTHER = gettext_lazy(
    "No authority here is {0}, which issued the revocation list. It counts for certificates that an authority of that "
    "name issued which callers send, and whose key signed the list; if you expected that authority here, add it."
)
_DURATIONS = {"m": 60, "h": 3600, "d": 86_400}


def parse_source(text: str) -> tuple[str, int]:
    """`URL`, or `URL 6h`; seconds between two fetches. Raises ValueError."""
    url, *rest = text.split()
    check_url(url)
    if not rest:
        return url, 3600
    number, unit = rest[0][:-1], rest[0][-1:]
    if len(rest) > 1 or unit not in _DURATIONS or not (number.isascii() and number.isdigit()) or len(number) > 6:
        raise ValueError(
            gettext("{names!r} is no time; write 30m, 6h or 1d after the URL.").format(names=" ".join(rest))
        )
    every = int(number) * _DURATIONS[unit]
    if not SHORTEST <= every <= LONGEST:
        raise ValueError(
            gettext("{rest}: lists are fetched every 1m to {value}d.").format(rest=rest[0], value=LONGEST // 86_400)
        )
    return url, every


def _duration(every: int) -> str:
    unit = next(unit for unit in ("d", "h", "m") if every % _DURATIONS[unit] == 0 or unit == "m")
    return f"{every // _DURATIONS[unit]}{unit}"


class TruststoreForm(NounForm):
    add = PemField(
        required=False,
        label=gettext_lazy("Add authorities"),
        help_text=gettext_lazy(
            "PEM, DER, PKCS#7 or PKCS#12, one or many at once. An intermediate counts as an anchor too."
        ),
    )
    password = FilePasswordField()
    remove = forms.ModelMultipleChoiceField(
        TrustedCertificate.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Remove"),
    )
    add_crl = PemField(
        required=False,
        limit=files.MAX_CRL,
        label=gettext_lazy("Add a revocation list"),
        help_text=gettext_lazy(
            "A CRL in PEM or DER, of an authority above, or of one below these that callers send. It replaces an "
            "older one of the same authority."
        ),
    )
    remove_crls = forms.ModelMultipleChoiceField(
        RevocationList.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Remove lists"),
    )

    crl_sources = LinesField(
        check=lambda text: parse_source(text),
        label=gettext_lazy("Fetch lists from"),
        help_text=gettext_lazy(
            "URLs, one a line, each with how often after it (1h where nothing is said): "
            "http://pki.partner.example/ca.crl 6h. What comes is taken if an authority above signed it. Until "
            "something has come from each, certificates of authorities without a list are refused, unless Let "
            "pass is chosen below."
        ),
        placeholder="http://pki.partner.example/ca.crl 6h",
    )

    class Meta:
        model = Truststore
        fields = ["name", "revocation", "max_intermediates", "description"]
        widgets = {"revocation": forms.RadioSelect}
        labels = {
            "revocation": gettext_lazy("When a revocation list has run out, or has never come from where it is fetched")
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["max_intermediates"].required = False  # a script that says nothing of it means the default
        self._added: tuple[certificates.Certificate, ...] = ()
        if not self.instance._state.adding:  # the page's notes look at them too
            prefetch_related_objects([self.instance], "certificates")
        self._stored = [] if self.instance._state.adding else list(self.instance.certificates.all())
        if self.instance._state.adding:
            self.fields["add"].required = True
        else:
            self.fields["remove"].queryset = self.instance.certificates.all()  # type: ignore[attr-defined]
            self.fields["remove_crls"].queryset = self.instance.crls.filter(source=None)  # type: ignore[attr-defined]
            self.initial["crl_sources"] = [
                source.url if source.every == 3600 else f"{source.url} {_duration(source.every)}"
                for source in self.sources
            ]

    def anchors(self) -> list[tuple[TrustedCertificate, Any]]:
        """For the template: each authority on file with the box that removes it."""
        return list(zip(self._stored, self["remove"], strict=True))

    @cached_property
    def crls(self) -> list[tuple[RevocationList, Any]]:
        stored = [] if self.instance._state.adding else list(self.instance.crls.filter(source=None))
        return list(zip(stored, self["remove_crls"], strict=True))

    @cached_property
    def sources(self) -> list[RevocationSource]:
        """For the template: where lists are fetched from, and how that goes."""
        if self.instance._state.adding:
            return []
        return list(self.instance.crl_sources.select_related("fetch", "crl"))

    def clean_crl_sources(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for line in self.cleaned_data["crl_sources"]:
            url, every = parse_source(line)
            if url in found:
                raise ValidationError(gettext("{url} is there twice; keep one of the lines.").format(url=url))
            found[url] = every
        return found

    def clean_password(self) -> str:
        """What is added can be read only now: its password is a field of its own."""
        password: str = self.cleaned_data["password"]
        if data := self.cleaned_data.get("add"):
            try:
                found = read_certificates(data, password)
                self._added = _authorities(found.certificates)
                self.told += (KEY_LEFT_OUT,) if found.left_out else ()
                self.told += tuple(words for each in self._added if (words := fault_of_anchor(each)))
            except ValidationError as error:
                self.add_error("add", error)
        return password

    def clean_remove(self) -> Any:
        """An authority that a mapping rule means stays, unless another truststore has it too."""
        removed = self.cleaned_data["remove"]
        for row in removed:
            key = row.certificate.spki_sha256
            others = TrustedCertificate.objects.exclude(pk__in=[each.pk for each in removed])
            rules = MappingRule.objects.filter(issuer_spki_sha256=key)
            if rules and not any(other.certificate.spki_sha256 == key for other in others):
                names = ", ".join(rule.name for rule in rules[:5])
                raise ValidationError(
                    gettext("{subject} stays: mapping rules mean it as their issuer ({names}).").format(
                        subject=row.subject, names=names
                    )
                )
        return removed

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        gone = set(data.get("remove") or [])
        remaining = [row.certificate for row in self._stored if row not in gone] + list(self._added)
        if "add" not in self.errors and "remove" not in self.errors:
            if not remaining:
                self.add_error(
                    "add", gettext("Nothing would be left, and every caller be refused. Add an authority first.")
                )
            self._check_crls(data, remaining)
        return data

    def _check_crls(self, data: dict[str, Any], anchors: list[certificates.Certificate]) -> None:
        """Every list that is kept or added is signed by an authority that is kept or added."""
        kept = [] if self.instance._state.adding else self.instance.crls.select_related("source")
        gone = set(data.get("remove_crls") or [])
        for crl in kept:
            if crl not in gone and (crl.source is None or crl.source.url in (data.get("crl_sources") or {})):
                try:
                    load_crl(bytes(crl.der), anchors, of_others=crl.of_other)
                except ValueError as error:
                    if crl.of_other:  # its authority, or one of that name, comes now
                        self.add_error("add", English(error))
                        continue
                    self.add_error(
                        "remove",
                        gettext("The revocation list of {issuer} needs its authority; remove both.").format(
                            issuer=crl.issuer
                        ),
                    )
        if uploaded := data.get("add_crl"):
            try:
                data["add_crl"] = files.crl_from(uploaded)
                read = load_crl(data["add_crl"], anchors, of_others=True)
                if not read.issuer_spki_sha256:
                    self.told += (OF_OTHER.format(read.issuer),)
            except ValueError as error:
                self.add_error("add_crl", English(error))

    def _save_m2m(self) -> None:
        super()._save_m2m()  # type: ignore[misc]
        store = self.instance
        for row in [*(self.cleaned_data.get("remove_crls") or []), *(self.cleaned_data.get("remove") or [])]:
            row.delete()
        known = set(store.certificates.values_list("sha256", flat=True))
        for certificate in self._added:
            if certificate.sha256 not in known:
                known.add(certificate.sha256)
                anchor = TrustedCertificate(truststore=store)
                anchor.set_certificate(certificate)
                anchor.full_clean()
                anchor.save()
        fetch_from(store, self.cleaned_data["crl_sources"])
        if der := self.cleaned_data.get("add_crl"):
            crl = RevocationList(truststore=store, der=der)
            crl.clean_fields()
            for older in store.crls.filter(
                source=None, issuer=crl.issuer, issuer_key__in=["", crl.issuer_key], scope=crl.scope
            ):
                older.delete()
            crl.full_clean()
            crl.save()


def _authorities(found: tuple[certificates.Certificate, ...]) -> tuple[certificates.Certificate, ...]:
    """Raises ValidationError where one of them is none."""
    for certificate in found:
        if not certificate.is_authority and not certificate.self_issued:
            raise ValidationError(
                gettext(
                    "{title} is no authority: it would be believed itself and nothing it issues. "
                    "Add the authority that issued it."
                ).format(title=certificate.title)
            )
    return found


class RegistrationForm(NounForm):
    certificate = PemField(required=False, help_text=gettext_lazy("The node's certificate. Only it may register."))
    password = FilePasswordField()
    from_keystore = forms.ModelChoiceField(
        queryset=Keystore.objects.all(), required=False, label=gettext_lazy("Or that of a keystore"),
        help_text=gettext_lazy("The keystore that the node's internal port shows."),
    )  # fmt: skip
    next_certificate = PemField(
        required=False,
        help_text=gettext_lazy(
            "Admitted besides, while the node's certificate is renewed. The renewal of a keystore sets it here, "
            "and takes it over, by itself."
        ),
    )
    drop_next = forms.BooleanField(required=False, label=gettext_lazy("Admit the next certificate no longer"))
    paths = LinesField(
        check=check_path,
        help_text=gettext_lazy("Paths that the channel may carry, with what lies below, one a line. None: every path."),
    )
    groups = [
        (gettext_lazy("The node's certificate"), ["certificate", "password", "from_keystore"], False),
        (gettext_lazy("Its next certificate"), ["next_certificate", "drop_next"], True),
        (gettext_lazy("What the channel may carry"),
         ["paths", "limits_assertions", "may_assert_truststores", "may_assert_groups", "allow_test"], False),
    ]  # fmt: skip
    shown_at = {"sha256": "certificate", "der": "certificate",
                "next_sha256": "next_certificate", "next_der": "next_certificate"}  # fmt: skip

    class Meta:
        model = Registration
        fields = ["name", "port", "node", "enabled", "paths", "limits_assertions", "may_assert_truststores",
                  "may_assert_groups", "allow_test"]  # fmt: skip
        widgets = {
            "may_assert_truststores": forms.CheckboxSelectMultiple,
            "may_assert_groups": forms.CheckboxSelectMultiple,
        }
        help_texts = {
            "may_assert_truststores": gettext_lazy(
                "With the limit on: only certificates of these. None chosen: all trusted ones."
            ),
            "may_assert_groups": gettext_lazy(
                "With the limit on: only these groups count. None chosen: all but Administrators."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["port"].queryset = Port.objects.of_type(PortType.REGISTRATION)  # type: ignore[attr-defined]
        self.fields["node"].queryset = Node.objects.filter(role=Role.INTERNAL)  # type: ignore[attr-defined]
        on_file = gettext("On file: {subject} (…{sha256}). Empty keeps it.")
        if not self.instance._state.adding:
            self.fields["certificate"].help_text = on_file.format(
                subject=self.instance.subject, sha256=self.instance.sha256[-8:]
            )
        upcoming = self.instance.next_certificate
        if upcoming is None:
            del self.fields["drop_next"]
        else:
            field = self.fields["next_certificate"]
            known = on_file.format(subject=upcoming.subject.text, sha256=upcoming.sha256[-8:])
            field.help_text = f"{field.help_text} {known}"

    def fill(self) -> None:
        self._fill_present()
        data, drop = self.cleaned_data.get("next_certificate"), self.cleaned_data.get("drop_next")
        if data and drop:
            raise ValidationError({"drop_next": gettext("Give another next certificate, or none; not both.")})
        if data:
            self.instance.set_next(self._leaf("next_certificate", data))
        elif drop or self.instance.next_sha256 == self.instance.sha256:  # it was made the present one
            self.instance.set_next(None)

    def _leaf(self, name: str, data: bytes) -> certificates.Certificate:
        """Raises ValidationError."""
        try:
            found = files.needed(files.read(data, self.cleaned_data.get("password")))
            self.told += (KEY_LEFT_OUT,) if found.left_out else ()
            return files.in_order(found.certificates)[0]
        except CertificateError as error:
            raise ValidationError({name: English(error)}) from error

    def _fill_present(self) -> None:
        data = self.cleaned_data.get("certificate")
        keystore = self.cleaned_data.get("from_keystore")
        if data and keystore:
            raise ValidationError({"from_keystore": gettext("Give a certificate or a keystore, not both.")})
        if data:
            self.instance.set_certificate(self._leaf("certificate", data))
        elif keystore:
            self.instance.set_certificate(keystore.certificate)
        elif self.instance._state.adding:
            raise ValidationError(
                {"certificate": gettext("A certificate is needed: choose a file, paste it, or name a keystore.")}
            )
