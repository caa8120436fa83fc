"""What every installation has, and cannot delete."""

import uuid

from django.db import migrations

GROUPS = {
    "Everybody": "Every user, Default too",
    "Anonymous": "Default alone: callers without a credential",
    "Administrators": "No registration may assert it unless it says so",
}
ACLS = {
    "Anonymous": ("Everybody, callers without a credential too", ["Everybody"], []),
    "Default": ("Every user but Default; guards what has no ACL of its own", ["Everybody"], ["Anonymous"]),
    "Administrators": ("Administrators alone", ["Administrators"], []),
}


def make(apps, schema_editor):
    Group, User, ACL = (apps.get_model("identity", name) for name in ("Group", "User", "ACL"))
    groups = {
        name: Group.objects.create(id=uuid.uuid4(), name=name, description=words, predefined=True)
        for name, words in GROUPS.items()
    }
    User.objects.create(
        id=uuid.uuid4(), name="Default", description="Callers without a credential", predefined=True
    )
    for name, (words, allowed, denied) in ACLS.items():
        acl = ACL.objects.create(id=uuid.uuid4(), name=name, description=words, predefined=True)
        acl.allowed.set([groups[group] for group in allowed])
        acl.denied.set([groups[group] for group in denied])


def unmake(apps, schema_editor):
    for name in ("ACL", "User", "Group"):
        apps.get_model("identity", name).objects.filter(predefined=True).delete()


class Migration(migrations.Migration):
    dependencies = [("identity", "0001_initial")]
    operations = [migrations.RunPython(make, unmake)]
