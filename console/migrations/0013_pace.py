from django.db import migrations, models

SPENT = "Microseconds since 1970: when all that was asked for is made up for; see console.pace"


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0012_job_confirmed"),
    ]

    # With a default of the database's own: a console of the version before adds rows too.
    operations = [
        migrations.AddField(
            model_name=model,
            name="spent_until",
            field=models.BigIntegerField(db_default=0, default=0, editable=False, help_text=SPENT),
        )
        for model in ("operator", "token")
    ]
