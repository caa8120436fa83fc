"""Pages of truststores."""

from django.db.models import Count, Min
from django.utils.translation import gettext, gettext_lazy

from console.forms.stores import TruststoreForm
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import DESCRIPTION, NAME, Cell, Column, Note, Noun, urlpatterns
from console.words import Said
from identity.core.profile import fault_of_anchor
from identity.models import Revocation, Truststore


def _soonest(row: Truststore) -> Cell:
    soonest = row.soonest  # type: ignore[attr-defined]
    return (
        Cell(expiry_words(soonest), expiry_class(soonest)) if soonest else Cell(gettext("empty: trusts nobody"), "bad")
    )


def _of_authorities(row: Truststore) -> list[Note]:
    """Why callers may be refused although nothing was changed."""
    found = [
        Note(Said(words), "bad")
        for each in row.certificates.all()
        if (words := fault_of_anchor(each.certificate)) is not None
    ]
    overdue = [crl.issuer for crl in row.crls.all() if crl.overdue]
    if overdue:
        if row.revocation == Revocation.HARD:
            words = gettext(
                "The revocation list of {names} has run out: their certificates are refused. Add the current one."
            )
        else:
            words = gettext(
                "The revocation list of {names} has run out: their certificates are not checked. Add the current one."
            )
        found.append(Note(words.format(names=", ".join(overdue)), "bad"))
    return found


def _lists(row: Truststore) -> Cell:
    number: int = row.crl_count  # type: ignore[attr-defined]
    return Cell(f"{number}, {row.revocation}") if number else Cell(gettext("none"), "soft")


TRUSTSTORES = Noun(
    kind="truststores",
    form=TruststoreForm,
    template="truststores/edit.html",
    notes=_of_authorities,
    lede=gettext_lazy("The authorities that a port believes."),
    columns=[
        NAME,
        Column(gettext_lazy("Authorities"), lambda row: Cell(str(row.anchor_count))),
        Column(gettext_lazy("First to end"), _soonest),
        Column(gettext_lazy("Revocation lists"), _lists),
        DESCRIPTION,
    ],
    rows=lambda rows: rows.annotate(
        anchor_count=Count("certificates", distinct=True),
        crl_count=Count("crls", distinct=True),
        soonest=Min("certificates__not_after"),
    ),
)

urls = urlpatterns(TRUSTSTORES)
