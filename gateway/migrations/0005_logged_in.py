"""Logins are recorded too."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("gateway", "0004_port_tls")]

    operations = [
        migrations.AlterField(
            model_name="change",
            name="action",
            field=models.CharField(
                choices=[
                    ("added", "added"),
                    ("changed", "changed"),
                    ("removed", "removed"),
                    ("tested", "tested"),
                    ("logged_in", "logged in"),
                ],
                max_length=16,
            ),
        ),
    ]
