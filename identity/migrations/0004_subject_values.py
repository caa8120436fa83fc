"""The subject of each certificate on file as rules compare it, so that whom a rule would mean can be asked of the database."""

from django.db import migrations, models

AT_ONCE = 500


def fill(apps, schema_editor):
    from identity.core.certificates import CertificateError, from_der

    rows = apps.get_model("identity", "Certificate").objects
    filled = []
    for row in rows.only("pk", "der", "subject_values").iterator(AT_ONCE):
        try:
            row.subject_values = from_der(bytes(row.der)).subject.comparable()
        except CertificateError:
            continue  # it stays unknown, and is looked at one by one
        filled.append(row)
        if len(filled) >= AT_ONCE:
            rows.bulk_update(filled, ["subject_values"])
            filled.clear()
    rows.bulk_update(filled, ["subject_values"])


class Migration(migrations.Migration):

    dependencies = [
        ('identity', '0003_usable_at_ports'),
    ]

    operations = [
        migrations.AddField(
            model_name='certificate',
            name='subject_values',
            field=models.TextField(db_default='', default='', editable=False, help_text='The subject as rules compare it; empty: not known yet'),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
