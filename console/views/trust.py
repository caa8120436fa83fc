"""Pages of truststores and keystores."""

from django.db.models import Count, Min

from console.forms.stores import KeystoreForm, TruststoreForm
from console.templatetags.console import expiry_class, expiry_words
from console.views.pages import DESCRIPTION, NAME, Cell, Column, Noun, urlpatterns
from identity.models import Keystore, Truststore


def _soonest(row: Truststore) -> Cell:
    soonest = row.soonest  # type: ignore[attr-defined]
    return Cell(expiry_words(soonest), expiry_class(soonest)) if soonest else Cell("empty: trusts nobody", "bad")


def _expiry(row: Keystore) -> Cell:
    return Cell(expiry_words(row.not_after), expiry_class(row.not_after))


TRUSTSTORES = Noun(
    kind="truststores",
    form=TruststoreForm,
    lede="The authorities that a port believes.",
    columns=[
        NAME,
        Column("Authorities", lambda row: Cell(str(row.anchor_count))),
        Column("First to end", _soonest),
        Column("Revocation lists", lambda row: Cell(row.revocation, "code")),
        DESCRIPTION,
    ],
    rows=lambda rows: rows.annotate(anchor_count=Count("certificates"), soonest=Min("certificates__not_after")),
)
KEYSTORES = Noun(
    kind="keystores",
    form=KeystoreForm,
    lede="Certificates with their private keys: what ports show, and what endpoints call as. Keys are sealed at rest "
    "and never shown.",
    columns=[
        NAME,
        Column("Certificate", lambda row: Cell(row.subject), "subject"),
        Column("SHA-256", lambda row: Cell(f"…{row.sha256[-8:]}", "code")),
        Column("Valid", _expiry, "not_after"),
        DESCRIPTION,
    ],
    search=("name", "subject", "sha256", "description"),
)

urls = [pattern for noun in (TRUSTSTORES, KEYSTORES) for pattern in urlpatterns(noun)]
