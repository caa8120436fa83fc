"""What every installation has and the migrations make: tests that empty the database take it away."""

from importlib import import_module

from django.db import connection
from django.db.migrations.loader import MigrationLoader


def bring_back() -> None:
    """Make the predefined rows unless they are there."""
    apps = MigrationLoader(connection).project_state(("identity", "0002_predefined")).apps
    if not apps.get_model("identity", "User").objects.filter(predefined=True).exists():
        import_module("identity.migrations.0002_predefined").make(apps, None)
