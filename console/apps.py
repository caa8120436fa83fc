"""The face: what operators see and do."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_in

        from console import sessions

        user_logged_in.connect(sessions.note_login, dispatch_uid="console note login")
