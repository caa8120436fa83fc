"""Pages of users, groups, ACLs and mapping rules."""

from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.translation import gettext, gettext_lazy, ngettext

from console.admission import admission
from console.bulk import DELETE, MEMBERSHIP, SWITCHING
from console.foresight import foresee
from console.forms.nouns import ACLForm, GroupForm, MappingRuleForm, UserForm
from console.views.pages import DESCRIPTION, NAME, Cell, Column, Note, Noun, urlpatterns, who
from identity.models import Certificate, Group, MappingRule, User
from identity.models.users import DEFAULT


def _enabled(row: User | MappingRule) -> Cell:
    return Cell(gettext("enabled"), "ok") if row.enabled else Cell(gettext("disabled"), "bad")


def _of_default(row: User) -> list[Note]:
    if row.name != DEFAULT:
        return []
    return [
        Note(
            gettext(
                "Default stands for callers without a credential. It is a member of Everybody and Anonymous alone, has "
                "no password, and can be neither disabled nor deleted. To keep such callers out, leave these groups "
                "off ACLs."
            ),
            "info",
        )
    ]


def _groups(row: User) -> list[Cell]:
    return [Cell(group.name, "code") for group in row.groups.all()] or [
        Cell(gettext("Everybody and Anonymous") if row.name == DEFAULT else gettext("Everybody only"), "soft")
    ]


def _credentials(row: User) -> Cell:
    count: int = row.certificate_count  # type: ignore[attr-defined]
    parts = [ngettext("{count} certificate", "{count} certificates", count).format(count=count)] if count else []
    parts += [gettext("password")] if row.password_hash else []
    return Cell(", ".join(parts)) if parts else Cell(gettext("none"), "soft")


def _members(row: Group) -> Cell:
    if row.has_fixed_members:
        return Cell(gettext("by definition"), "soft")
    return Cell(str(row.user_count))  # type: ignore[attr-defined]


def _names(rows: list[Group]) -> list[Cell]:
    return [Cell(group.name, "code") for group in rows] or [Cell(gettext("none"), "soft")]


def _conditions(row: MappingRule) -> list[Cell]:
    found = [Cell(gettext("issuer {issuer}").format(issuer=row.issuer))] if row.issuer else []
    found += [Cell(f"{kind} = {', '.join(values)}", "code") for kind, values in row.subject.items()]
    return found + ([Cell(row.san, "code")] if row.san else [])


def _yields(row: MappingRule) -> Cell:
    return (
        who(row.user)
        if row.user
        else Cell(gettext("the certificate's {kind}").format(kind=row.get_user_from_display()))
    )


# Counted for each row that is shown. A join would have to count for all of 10,000 before the first is shown.
_CERTIFICATES = Certificate.objects.filter(user=OuterRef("pk")).order_by()
_MEMBERS = User.groups.through.objects.filter(group=OuterRef("pk")).order_by()


def _count(rows: QuerySet[Any], key: str) -> Coalesce:
    return Coalesce(Subquery(rows.values(key).annotate(count=Count("pk")).values("count")), 0)


USERS = Noun(
    kind="users",
    form=UserForm,
    notes=_of_default,
    bulk=(*SWITCHING, *MEMBERSHIP, DELETE),
    lede=gettext_lazy("Whom requests run as. Who logs in to this console is an operator, and somebody else."),
    columns=[NAME, Column(gettext_lazy("State"), _enabled, "enabled"), Column(gettext_lazy("Groups"), _groups),
             Column(gettext_lazy("Credentials"), _credentials), DESCRIPTION],
    filters={
        "disabled": (gettext_lazy("disabled"), Q(enabled=False)),
        "without": (gettext_lazy("without a credential"), ~Exists(_CERTIFICATES) & Q(password_hash="")),
    },
    rows=lambda rows: rows.prefetch_related("groups").annotate(certificate_count=_count(_CERTIFICATES, "user")),
)  # fmt: skip
GROUPS = Noun(
    kind="groups",
    form=GroupForm,
    lede=gettext_lazy("What ACLs allow and deny. Users are members; put them in on the user's page."),
    columns=[NAME, Column(gettext_lazy("Members"), _members), DESCRIPTION],
    rows=lambda rows: rows.annotate(user_count=_count(_MEMBERS, "group")),
)
ACLS = Noun(
    kind="acls",
    form=ACLForm,
    template="acls/edit.html",
    context=lambda row: {"admission": admission(row) if row else None},
    lede=gettext_lazy("Who may execute. Denied beats allowed; a group that is not mentioned is denied."),
    columns=[
        NAME,
        Column(gettext_lazy("Allowed"), lambda row: _names(row.allowed.all())),
        Column(gettext_lazy("Denied"), lambda row: _names(row.denied.all())),
        DESCRIPTION,
    ],
    rows=lambda rows: rows.prefetch_related("allowed", "denied"),
)
MAPPING_RULES = Noun(
    kind="mapping_rules",
    form=MappingRuleForm,
    template="mapping_rules/edit.html",
    foresee=foresee,
    lede=gettext_lazy(
        "Whom certificates that are not mapped one by one run as. All conditions of a rule must hold; "
        "rules of one priority that name different users refuse."
    ),
    columns=[
        NAME,
        Column(gettext_lazy("Priority"), lambda row: Cell(str(row.priority)), "priority"),
        Column(gettext_lazy("State"), _enabled),
        Column(gettext_lazy("Conditions"), _conditions),
        Column(gettext_lazy("Runs as"), _yields),
    ],
    search=("name", "issuer", "san", "user__name"),
    rows=lambda rows: rows.select_related("user"),
)

urls = [pattern for noun in (USERS, GROUPS, ACLS, MAPPING_RULES) for pattern in urlpatterns(noun)]
