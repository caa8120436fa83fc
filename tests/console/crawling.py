"""Every address of the console that answers GET, for whoever looks for something on all of them."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, get_resolver, reverse

from console.models import Job, Operator, Refusal, SavedTest, TestRun
from console.views.ahead import STEPS
from gateway.models import ChangeSet, PortType

# What has pages, and is no configuration.
OTHERS = {"changes": ChangeSet, "imports": Job, "tests": SavedTest, "operators": Operator}


def pages(kinds: dict[str, Any]) -> Iterator[str]:
    """Of each noun, for each of its objects. `kinds`: kind → one of its objects."""
    for pattern in get_resolver().url_patterns:
        if not isinstance(pattern, URLPattern) or not pattern.name:
            continue
        kind = pattern.name.rpartition("-")[0]
        if "pk" in pattern.pattern.converters:
            rows = [1] if kind not in kinds else [row.pk for row in type(kinds[kind])._default_manager.all()]
            if pattern.name == "tests-run":
                rows = list(TestRun.objects.values_list("pk", flat=True))
            elif kind in OTHERS:
                rows = list(OTHERS[kind]._default_manager.values_list("pk", flat=True))
            words = [[word] for word in STEPS] if pattern.name.endswith("-ahead") else [[]]
            yield from (reverse(pattern.name, args=[pk, *more]) for pk in rows for more in words)
        elif pattern.name == "refusals-detail":
            yield from (reverse(pattern.name, args=[row.trace_id]) for row in Refusal.objects.exclude(trace_id=""))
        elif pattern.name == "ports-add":
            yield from (reverse(pattern.name, args=[kind]) for kind in PortType.values)
        elif not pattern.pattern.converters and pattern.name != "api-nothing":  # whose address is a pattern
            yield reverse(pattern.name)
