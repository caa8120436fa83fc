import hashlib

from django.db import migrations


def to_digests(apps, schema_editor):
    """Logins go on: each is found by the digest of the key that its browser holds."""
    sessions = apps.get_model("console", "Session").objects
    for key in list(sessions.values_list("session_key", flat=True)):
        # As `console.sessions.digest` had it then.
        digest = hashlib.sha256(f"postern session {key}".encode()).hexdigest()[:40]
        sessions.filter(session_key=key).update(session_key=digest)


def end_all(apps, schema_editor):
    """There is no way back to the keys."""
    apps.get_model("console", "Session").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('console', '0008_tokens'),
    ]

    operations = [migrations.RunPython(to_digests, end_all)]
