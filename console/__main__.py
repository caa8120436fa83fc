"""The commands of an installed console: `postern COMMAND`, as `manage.py COMMAND` in a checkout.

`postern init` and `postern new-key` are no commands of Django's: they make the keys that the settings ask for.
"""

import os
import sys


def main() -> None:
    os.umask(0o077)  # what is made here, the database first of all, is this account's alone
    if sys.argv[1:] == ["init"]:
        from console import environment

        sys.exit(environment.main())
    if sys.argv[1:] == ["new-key"]:
        from console import environment

        print(environment.new_key())
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"This cannot be started as it is configured. {error}")


if __name__ == "__main__":
    main()
