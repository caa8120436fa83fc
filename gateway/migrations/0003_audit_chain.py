"""The audit log becomes a chain; what was recorded before is linked as it stands."""

import django.db.models.deletion
from django.db import migrations, models

from gateway.core.chain import GENESIS, digest
from identity.models import sealing


def chain(apps, schema_editor):
    ChangeSet, Link, Head = (apps.get_model("gateway", name) for name in ("ChangeSet", "Link", "Head"))
    previous, last = GENESIS, None
    for made in ChangeSet.objects.order_by("pk").iterator(chunk_size=1000):
        hashed = digest(
            previous,
            number=made.pk,
            at=made.at,
            actor=made.actor,
            address=made.address,
            message=made.message,
            configures=made.configures,
            changes=made.changes.order_by("pk").values_list("action", "kind", "object_id", "name", "before", "after"),
        )
        Link.objects.create(change_set=made, previous=previous, hash=hashed)
        previous, last = hashed, made
    if last is not None:
        head = Head(pk=1)
        sealing.seal(head, "end", f"{last.pk}:{previous}".encode())
        head.save()


def forbid(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    if vendor == "sqlite":
        schema_editor.execute(
            "CREATE TRIGGER gateway_link_append_only BEFORE UPDATE ON gateway_link "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
    elif vendor == "postgresql":
        schema_editor.execute(
            "CREATE TRIGGER gateway_link_append_only BEFORE UPDATE ON gateway_link "
            "FOR EACH ROW EXECUTE FUNCTION postern_append_only()"
        )


def allow(apps, schema_editor):
    on = " ON gateway_link" if schema_editor.connection.vendor == "postgresql" else ""
    schema_editor.execute(f"DROP TRIGGER gateway_link_append_only{on}")


class Migration(migrations.Migration):
    dependencies = [("gateway", "0002_append_only")]

    operations = [
        migrations.CreateModel(
            name="Link",
            fields=[
                (
                    "change_set",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="link",
                        serialize=False,
                        to="gateway.changeset",
                    ),
                ),
                ("previous", models.CharField(help_text="The hash that it stands on", max_length=64, unique=True)),
                ("hash", models.CharField(max_length=64, unique=True)),
            ],
            options={"ordering": ["change_set"]},
        ),
        migrations.CreateModel(
            name="Head",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(editable=False, primary_key=True, serialize=False),
                ),
                (
                    "end",
                    models.BinaryField(editable=False, help_text="Number and hash of the last change set, sealed"),
                ),
            ],
            options={"constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="head_is_one")]},
        ),
        migrations.CreateModel(
            name="KeptSecret",
            fields=[
                ("id", models.CharField(editable=False, max_length=100, primary_key=True, serialize=False)),
                ("column", models.CharField(max_length=64)),
                ("value", models.BinaryField(editable=False)),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="secrets", to="gateway.change"
                    ),
                ),
            ],
        ),
        migrations.RunPython(chain, migrations.RunPython.noop),
        migrations.RunPython(forbid, allow),
    ]
