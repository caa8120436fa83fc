"""WHO: users, groups, ACLs, certificates and what they are mapped to."""

from django.apps import AppConfig


class IdentityConfig(AppConfig):
    name = "identity"

    def ready(self) -> None:
        from identity.models import guards

        guards.connect()
