"""What is named by text and not by key: a service or an API on a port's list, a port where alone a user may be used.

Connected when the app is ready.
"""

from typing import Any

from django.db.models import Model, ProtectedError
from django.db.models.signals import pre_delete

from gateway.models.apis import API
from gateway.models.ports import Port
from gateway.models.services import Service
from identity.models import Certificate, MappingRule, User

LIMITED_TO_PORTS: tuple[type[Model], ...] = (User, Certificate, MappingRule)


def ports_naming(name: str) -> list[Port]:
    """Ports whose service_access names this service or API."""
    return [
        port
        for port in Port.objects.all()
        if name in port.service_access.get("allow", []) or name in port.service_access.get("deny", [])
    ]


def limited_to_ports(name: str | None = None) -> list[Any]:
    """Users, certificates and mapping rules that may be used at some ports alone; with `name`, at this one."""
    rows = [row for model in LIMITED_TO_PORTS for row in model._default_manager.exclude(ports=[])]
    return [row for row in rows if name is None or name in row.ports]


def _refuse_deletion_of_listed(instance: Any, **_: Any) -> None:
    if ports := ports_naming(instance.name):
        raise ProtectedError(f"{instance} is still named by a port's service_access", set(ports))


def connect() -> None:
    for model in (Service, API):
        pre_delete.connect(_refuse_deletion_of_listed, sender=model, dispatch_uid=f"keep listed {model.__name__}")
