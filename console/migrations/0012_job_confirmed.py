from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0011_jobs_that_undo"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="confirmed",
            field=models.BooleanField(default=True, help_text="Whether it may do what is asked again for before"),
        ),
    ]
