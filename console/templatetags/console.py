"""Template tags of the console."""

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext

from console import words
from console.words import Said
from gateway.core.reasons import REASONS
from identity.core.commands import command

register = template.Library()


@register.filter
def days_left(moment: Any) -> int:
    """Whole days until `moment`; negative when it is over."""
    return (moment - timezone.now()).days


@register.filter
def expiry_class(moment: Any) -> str:
    left = days_left(moment)
    return "bad" if left < 7 else "warn" if left < 30 else "ok"


@register.filter
def expiry_words(moment: Any) -> str:
    left = days_left(moment)
    if moment < timezone.now():
        return gettext("expired")
    if left == 0:
        return gettext("ends today")
    return ngettext("{count} day left", "{count} days left", left).format(count=left)


@register.filter
def moment(when: datetime | None) -> str:
    """A time as the server's zone has it; a script tells it in the reader's. Nothing for None."""
    if when is None:
        return ""
    here = timezone.localtime(when)
    return format_html('<time datetime="{}">{}</time>', here.isoformat(timespec="seconds"), f"{here:%Y-%m-%d %H:%M %Z}")


@register.filter
def day(when: datetime) -> str:
    """A date as all dates are written, in one piece: a line may not end at a hyphen of it."""
    return format_html('<span class="nowrap">{}</span>', f"{timezone.localtime(when):%Y-%m-%d}")


@register.filter
def may(operator: Any, permission: str) -> bool:
    return bool(operator.may(permission))


@register.simple_tag(name="command")
def command_tag(words: str) -> str:
    """A command of the console's, as it is typed here."""
    return command(words)


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: Any) -> str:
    """The page's query string with some parameters changed."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        parameters[name] = value
    return f"?{parameters.urlencode()}"


@register.filter
def descending(order: str) -> str:
    return f"-{order}"


@register.filter
def at(values: Any, index: int) -> Any:
    return values[index]


@register.filter
def get(values: dict[str, Any], key: str) -> Any:
    return values.get(key)


@register.filter
def colons(fingerprint: str) -> str:
    """A fingerprint as people compare it: 9F:4A:…"""
    upper = fingerprint.upper()
    return ":".join(upper[i : i + 2] for i in range(0, len(upper), 2))


@register.filter
def unlocalized(number: float) -> str:
    """As SVG wants it, whatever the reader's language writes for a decimal point."""
    return f"{number:g}"


@register.filter
def reason_words(reason: Any) -> str:
    """The code, as codes look, and its words in brackets; what is no reason of ours is told as it is."""
    info = REASONS.get(reason)
    return format_html("<code>{}</code> ({})", reason, gettext(info.words).rstrip(".")) if info else str(reason)


@register.filter
def meant(who: Any) -> str:
    """Whom a certificate means: a user's name, or nobody and why."""
    if who in REASONS:
        return format_html(gettext("nobody, {reason}"), reason=reason_words(who))
    return format_html(gettext("user {user}"), user=who)


@register.filter
def translated(text: Any) -> str:
    """Of closed tables that know no Django, such as the reasons: their texts are gathered in `console.words`."""
    return gettext(str(text)) if text else ""


register.filter(words.label_words)


@register.filter
def said(text: str) -> str:
    """Marked as English where it is somebody else's word."""
    return format_html('<span lang="en">{}</span>', text) if isinstance(text, Said) else text


@register.filter
def mark_words(mark: str) -> str:
    """What the mark of a finding means, for who cannot see it."""
    return {"good": gettext("good"), "bad": gettext("bad"), "note": gettext("note")}[mark]


@register.filter
def split(text: str) -> list[str]:
    return text.split()
