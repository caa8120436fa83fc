"""What names an object by text follows when the object is renamed.

Ports' lists of services, endpoints' URLs, the ports where alone a user may be used.
"""

from typing import Any

from gateway.models import API, Endpoint, Port, Service
from gateway.models.guards import limited_to_ports, ports_naming


def stored_name(row: Any) -> str:
    """The name before an edit; "" for an object that is being added."""
    found: str = type(row)._default_manager.filter(pk=row.pk).values_list("name", flat=True).first() or ""
    return found


def follow(row: Any, old: str) -> None:
    """Carry the new name of `row`, which was called `old`, to what names it; inside the same change set."""
    if not old or old == row.name:
        return
    if isinstance(row, Service | API):
        for port in ports_naming(old):
            access = port.service_access
            port.service_access = access | {key: _renamed(access[key], old, row.name) for key in ("allow", "deny")}
            port.save()
    elif isinstance(row, Port):
        for endpoint in Endpoint.objects.filter(registration_port=row):
            endpoint.url = f"reverse://{row.name}{endpoint.url.removeprefix(f'reverse://{old}')}"
            endpoint.save()
        for limited in limited_to_ports(old):
            limited.ports = sorted(_renamed(limited.ports, old, row.name))
            limited.save()


def _renamed(entries: list[str], old: str, new: str) -> list[str]:
    return [new if entry == old else entry for entry in entries]
