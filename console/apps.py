"""The face: what operators see and do."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"
