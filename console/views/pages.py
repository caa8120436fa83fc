"""What the pages of every noun have in common: list, add, edit, delete. A noun's module declares the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from console.access import TOUCHING, WouldChange, access_of, answers_about, is_quick
from console.blocking import blocking_of, is_shut_out
from console.bulk import Action
from console.forms.fields import NounForm
from console.grave import any_grave
from console.models import PERMISSIONS, role_name
from console.nouns import ADDING, ADDING_PORT, NONE_YET, SINGULAR, TITLES, label_of, permission_of, recorded, url_of
from console.pace import costs
from console.permissions import require
from console.references import Reference, references
from console.renames import follow, stored_name
from console.sign_in import AskAgain, ask_again, asks_again, is_fresh
from console.suggestions import suggested
from gateway import unconfirmed
from gateway.access.changes import outlook
from gateway.audit import Recorder, change_set
from gateway.models import Change
from gateway.topology.entries import SECTIONS

PAGE = 50
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of a table. `kind`: how it looks: text, code, who, ok, warn, bad, soft."""

    text: str
    kind: str = "text"
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """`order`: the field that the column sorts by; "" where it does not."""

    title: str
    cell: Callable[[Any], Cell | list[Cell]]
    order: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What an operator should know of an object. `kind`: warn, bad, ok or info."""

    text: str
    kind: str = "warn"


@dataclass(frozen=True, slots=True)
class Noun:
    """One kind of object and its pages.

    Attributes:
        lede: one sentence: what these objects are.
        search: fields that the list's search looks into.
        filters: value of ?show= → (label, condition).
        rows: the list's query, with what its cells need fetched at once.
        form_options: further arguments of the form, from the request and the row (None when one is added).
        context: what the edit page's template needs besides, from the row.
        adds: (label, URL) of the ways to add one; empty: the one page of this noun.
        foresee: what a valid, unsaved row would do: asked for with a button, and before what is `grave` is saved.
        more: (label, URL) of further pages that its list leads to.
        notes: what is lawful but odd about a row, shown above its form.
        bulk: what may be done to several at once.
        goes_back: whether a change of one may be told to go back by itself unless it is confirmed.
        secret: whether it is asked again who somebody is, before he adds, changes or deletes one.
    """

    kind: str
    form: type[NounForm]
    columns: list[Column]
    lede: str
    search: tuple[str, ...] = ("name", "description")
    filters: dict[str, tuple[str, Q]] = field(default_factory=dict)
    rows: Callable[[QuerySet[Any]], QuerySet[Any]] = lambda rows: rows
    form_options: Callable[[HttpRequest, Any], dict[str, Any]] = lambda request, row: {}
    adds: Callable[[], list[tuple[str, str]]] | None = None
    more: Callable[[], list[tuple[str, str]]] = list
    template: str = "nouns/edit.html"
    context: Callable[[Any], dict[str, Any]] = lambda row: {}
    notes: Callable[[Any], list[Note]] = lambda row: []
    foresee: Callable[[Any], Any] | None = None
    goes_back: bool = False
    secret: bool = False
    bulk: tuple[Action, ...] = ()

    @property
    def model(self) -> type[Model]:
        return SECTIONS[self.kind]

    @property
    def title(self) -> str:
        return str(TITLES[self.kind])

    @property
    def singular(self) -> str:
        return str(SINGULAR[self.kind])

    @property
    def none_yet(self) -> str:
        return str(NONE_YET[self.kind])

    @property
    def permission(self) -> str:
        return permission_of(self.kind)

    @property
    def add_label(self) -> str:
        return str(ADDING[self.kind])

    def adding(self, form: NounForm) -> str:
        """What the page that adds one is called; a form that knows its type says which."""
        return str(form.adding or ADDING_PORT.get(getattr(form, "type", ""), self.add_label))


def name_cell(row: Any) -> Cell:
    return Cell(row.name, "name", url_of(row))


def link(row: Any) -> Cell:
    """A reference to another object, or nothing."""
    return Cell(row.name, "text", url_of(row)) if row is not None else Cell("—", "soft")


def who(user: Any) -> Cell:
    return Cell(user.name, "who", url_of(user)) if user is not None else Cell(gettext("nobody"), "soft")


NAME = Column(gettext_lazy("Name"), name_cell, "name")
DESCRIPTION = Column(gettext_lazy("Description"), lambda row: Cell(row.description, "soft"))


def urlpatterns(noun: Noun, *, with_add: bool = True) -> list[URLPattern]:
    """The pages of a noun, named `KIND-list`, `KIND-add`, `KIND-edit`, `KIND-delete`."""
    kind = noun.kind
    edit = costs("access")(lambda r, pk: edit_page(r, noun, pk))
    patterns = [
        path(f"{kind}/", lambda r: list_page(r, noun), name=f"{kind}-list"),
        path(f"{kind}/<uuid:pk>/", edit, name=f"{kind}-edit"),
        path(f"{kind}/<uuid:pk>/delete/", lambda r, pk: delete_page(r, noun, pk), name=f"{kind}-delete"),
    ]
    if with_add:
        patterns.append(path(f"{kind}/add/", lambda r: edit_page(r, noun, None), name=f"{kind}-add"))
    return patterns


@require_safe
def list_page(request: HttpRequest, noun: Noun) -> HttpResponse:
    require(request, "view")
    rows, text, show = selected(noun, request.GET)
    order = request.GET.get("sort", "")
    if order.removeprefix("-") not in {column.order for column in noun.columns if column.order}:
        order = ""
    # Said again even where it is the model's own order: a query that counts or joins loses that one.
    rows = rows.order_by(*([order] if order else noun.model._meta.ordering), "pk")
    # First which rows they are, from an index: on page 1,500 whole rows would be read and thrown away by the thousand.
    page = Paginator(rows.values_list("pk", flat=True), PAGE).get_page(request.GET.get("page"))
    shown = noun.rows(noun.model._default_manager.all()).in_bulk(list(page))
    page.object_list = [shown[pk] for pk in page if pk in shown]
    return render(
        request,
        "nouns/list.html",
        {
            "noun": noun,
            "page": page,
            "text": text,
            "show": show,
            "sort": order,
            "table": [[(column.title, _cells(column.cell(row))) for column in noun.columns] for row in page],
            "may_change": request.user.may(noun.permission),  # type: ignore[union-attr]
            "bulk": noun.bulk if request.user.may(noun.permission) else (),  # type: ignore[union-attr]
            "adds": noun.adds() if noun.adds else [],
            "more": noun.more(),
            "add_url": "" if noun.adds else reverse(f"{noun.kind}-add"),
            "total": page.paginator.count if not text and not show else noun.model._default_manager.count(),
        },
    )


def selected(noun: Noun, asked: QueryDict) -> tuple[QuerySet[Any], str, str]:
    """The rows that ?q= and ?show= leave, and these two."""
    rows = noun.rows(noun.model._default_manager.all())
    text = asked.get("q", "").strip()
    if text:
        condition = Q()
        for name in noun.search:
            condition |= Q(**{f"{name}__icontains": text})
        rows = rows.filter(condition)
    show = asked.get("show", "")
    if show in noun.filters:
        rows = rows.filter(noun.filters[show][1])
    return rows, text, show


def _cells(cell: Cell | list[Cell]) -> list[Cell]:
    return cell if isinstance(cell, list) else [cell]


@require_http_methods(["GET", "POST"])
@asks_again
def edit_page(request: HttpRequest, noun: Noun, pk: Any) -> HttpResponse:
    """Show, and with the permission change, one object; without `pk` add one."""
    row = get_object_or_404(noun.model, pk=pk) if pk else None
    may_change = request.user.may(noun.permission)  # type: ignore[union-attr]
    require(request, noun.permission if request.method == "POST" or row is None else "view")
    if noun.secret and may_change and not is_fresh(request):
        return ask_again(request)
    bound = request.method == "POST"
    options = noun.form_options(request, row)
    # A link elsewhere may fill in what it knows: /services/add/?node=…
    initial = request.GET.dict() if not bound and row is None else None
    form = noun.form(
        request.POST if bound else None, request.FILES if bound else None, instance=row, initial=initial, **options
    )
    if not may_change:
        for each in form.fields.values():
            each.disabled = True
    suggestion = suggested(row, request.GET.dict()) if row is not None and may_change and not bound else None
    if suggestion is not None:
        form.initial |= suggestion.initial
    would_change, foreseen = None, None
    if bound and "would_change" in request.POST:
        would_change = look_ahead(request, noun, form) if form.is_valid() else None
    else:
        foreseen = _foreseen(request, noun, form) if bound and form.is_valid() else None
        if bound and form.is_valid() and foreseen is None and (saved := save(request, noun, form)) is not None:
            words = gettext("{noun} {name} is saved.")
            messages.success(request, capfirst(words.format(noun=noun.singular, name=saved)))
            for words in form.told:
                messages.warning(request, words)
            return redirect(url_of(saved) or "overview")
    answers = row is not None and answers_about(row)
    if bound and row is not None:
        row.refresh_from_db()  # the heading shows what is stored, not what was typed
    return render(
        request,
        noun.template,
        {
            "noun": noun,
            "form": form,
            "row": row,
            "may_change": may_change,
            "may_enrol": request.user.may("change_identity"),  # type: ignore[union-attr]
            "references": references(row) if row else [],
            "changes": changes_of(noun.kind, row) if row else [],
            "blocking": blocking_of(row) if row else None,
            "adding": noun.adding(form),
            "needed_role": role_name(PERMISSIONS[noun.permission]),
            "notes": noun.notes(row) if row else [],
            "foresees": noun.foresee is not None,
            "touches_access": noun.kind in TOUCHING,
            "suggestion": suggestion,
            "would_change": would_change,
            "foreseen": foreseen,
            "access": access_of(row) if answers and (request.GET.get("access") or is_quick()) else None,
            "asks_access": answers,
            **noun.context(row),
        },
        status=422 if bound and foreseen is None and would_change is None else 200,
    )


def _foreseen(request: HttpRequest, noun: Noun, form: NounForm) -> Any:
    """What to show before the row is saved; None where it is to be saved at once."""
    if noun.foresee is None or ("look" not in request.POST and "despite" in request.POST):
        return None
    found = noun.foresee(form.instance)
    return found if "look" in request.POST or found.grave else None


def save(request: HttpRequest, noun: Noun, form: NounForm) -> Model | None:
    """The saved object; None where the model or the database refused, the reason then being on the form.

    Raises:
        AskAgain: it is grave; nothing was saved.
    """
    waits = None if form.instance._state.adding else unconfirmed.waiting_for(noun.kind, form.instance.pk)
    if waits is not None:
        form.add_error(
            None,
            gettext("Change {number} of it waits to be confirmed: keep it, or take it back, first.").format(
                number=waits.pk
            ),
        )
        return None
    message = f"{noun.model._meta.verbose_name} {form.cleaned_data.get('name', form.instance)} {_done(form)}"

    def saving() -> Model:
        with transaction.atomic():
            with change_set(operator_of(request), message, address_of(request)) as recorder:
                saved = _carry_out(form)
            _fresh_enough(request, recorder)
            if form.cleaned_data.get("goes_back") and recorder.revision is not None:
                unconfirmed.wait(recorder.revision)
            return saved

    return _unless_refused(form, saving)


def look_ahead(request: HttpRequest, noun: Noun, form: NounForm) -> WouldChange | None:
    """What would change for whom if the form were saved; None where it would be refused."""
    found = _unless_refused(form, lambda: outlook(lambda: _carry_out(form), operator_of(request)))
    if found is None:
        return None
    again = form.typed_once()
    form.carry_files()
    return WouldChange(found, again)


def _done(form: NounForm) -> str:
    return "added" if form.instance._state.adding else "changed"


def _carry_out(form: NounForm) -> Model:
    before = "" if form.instance._state.adding else stored_name(form.instance)
    saved: Model = form.save()
    follow(saved, before)
    return saved


def _unless_refused(form: NounForm, act: Callable[[], T]) -> T | None:
    try:
        return act()
    except ValidationError as error:
        form.take_errors(error)
    except IntegrityError:
        form.add_error(
            None, gettext("Somebody else has changed this meanwhile, or the name is taken. Look again and repeat.")
        )
    return None


@require_http_methods(["GET", "POST"])
@asks_again
def delete_page(request: HttpRequest, noun: Noun, pk: Any) -> HttpResponse:
    """Ask, telling what still refers to the object, or who would lose access; delete where nothing does."""
    require(request, noun.permission)
    row = get_object_or_404(noun.model, pk=pk)
    if (noun.secret or is_shut_out(row)) and not is_fresh(request):
        return ask_again(request)
    found = references(row)
    problem = ""
    if getattr(row, "predefined", False):
        problem = gettext("{name} is predefined and cannot be deleted.").format(name=row)
    elif (waits := unconfirmed.waiting_for(noun.kind, row.pk)) is not None:
        words = gettext("Change {number} of it waits to be confirmed: keep it, or take it back, first.")
        problem = words.format(number=waits.pk)
    looks = request.method != "POST" or "would_change" in request.POST
    if not looks and not found and not problem:
        try:
            _delete(request, noun, row)
        except ProtectedError as error:
            found = [Reference(label_of(other), url_of(other)) for other in error.protected_objects]
        except ValidationError as error:
            problem = " ".join(error.messages)
        else:
            words = gettext("{noun} {name} is deleted.")
            messages.success(request, capfirst(words.format(noun=noun.singular, name=row)))
            return redirect(f"{noun.kind}-list")
    touches = noun.kind in TOUCHING and not found and not problem
    would_change = _without(request, noun, pk) if touches and "would_change" in request.POST else None
    context = {"noun": noun, "row": row, "references": found, "problem": problem, "would_change": would_change,
               "touches_access": touches, "seconds": unconfirmed.SECONDS}  # fmt: skip
    return render(request, "nouns/delete.html", context, status=200 if looks else 409)


def _delete(request: HttpRequest, noun: Noun, row: Model) -> None:
    """Raises ProtectedError, ValidationError, AskAgain."""
    with transaction.atomic():
        with change_set(operator_of(request), f"{recorded(row)} deleted", address_of(request)) as recorder:
            row.delete()
        _fresh_enough(request, recorder)
        if noun.goes_back and "goes_back" in request.POST and recorder.revision is not None:
            unconfirmed.wait(recorder.revision)


def _fresh_enough(request: HttpRequest, recorder: Recorder) -> None:
    """By what was done, whatever form did it; to be called where it can still be taken back. Raises AskAgain."""
    if not is_fresh(request) and any_grave(recorder.changes):
        raise AskAgain


def _without(request: HttpRequest, noun: Noun, pk: Any) -> WouldChange | None:
    """What would change for whom if the object were deleted; None where it could not be."""
    try:
        return WouldChange(outlook(lambda: noun.model._default_manager.get(pk=pk).delete(), operator_of(request)), [])
    except (ProtectedError, ValidationError):
        return None


def changes_of(kind: str, row: Any, count: int = 8) -> list[Change]:
    rows = Change.objects.filter(kind=kind, object_id=str(row.pk)).select_related("change_set")
    return list(rows.order_by("-id")[:count])


def operator_of(request: HttpRequest) -> str:
    return request.user.get_username()


def address_of(request: HttpRequest) -> str | None:
    return request.META.get("REMOTE_ADDR") or None
