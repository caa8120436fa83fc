"""Pages of truststores."""

from django.db.models import Count, Min

from console.forms.stores import TruststoreForm
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import DESCRIPTION, NAME, Cell, Column, Note, Noun, urlpatterns
from identity.core.profile import fault_of_anchor
from identity.models import Revocation, Truststore


def _soonest(row: Truststore) -> Cell:
    soonest = row.soonest  # type: ignore[attr-defined]
    return Cell(expiry_words(soonest), expiry_class(soonest)) if soonest else Cell("empty: trusts nobody", "bad")


def _of_authorities(row: Truststore) -> list[Note]:
    """Why callers may be refused although nothing was changed."""
    found = [
        Note(words, "bad")
        for each in row.certificates.all()
        if (words := fault_of_anchor(each.certificate)) is not None
    ]
    overdue = [crl.issuer for crl in row.crls.all() if crl.overdue]
    if overdue:
        effect = "their certificates are" + (" refused" if row.revocation == Revocation.HARD else " not checked")
        words = f"The revocation list of {', '.join(overdue)} has run out: {effect}. Add the current one."
        found.append(Note(words, "bad"))
    return found


def _lists(row: Truststore) -> Cell:
    number: int = row.crl_count  # type: ignore[attr-defined]
    return Cell(f"{number}, {row.revocation}") if number else Cell("none", "soft")


TRUSTSTORES = Noun(
    kind="truststores",
    form=TruststoreForm,
    template="truststores/edit.html",
    notes=_of_authorities,
    lede="The authorities that a port believes.",
    columns=[
        NAME,
        Column("Authorities", lambda row: Cell(str(row.anchor_count))),
        Column("First to end", _soonest),
        Column("Revocation lists", _lists),
        DESCRIPTION,
    ],
    rows=lambda rows: rows.annotate(
        anchor_count=Count("certificates", distinct=True),
        crl_count=Count("crls", distinct=True),
        soonest=Min("certificates__not_after"),
    ),
)

urls = urlpatterns(TRUSTSTORES)
