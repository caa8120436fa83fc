"""WHERE: nodes, ports, services, APIs, endpoints, registrations, and the relay that serves them."""

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"

    def ready(self) -> None:
        from gateway import audit
        from gateway.models import guards

        audit.connect()
        guards.connect()
