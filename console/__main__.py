"""The commands of an installed console: `postern COMMAND`, as `manage.py COMMAND` in a checkout.

`postern init` is no command of Django's: it makes the keys that the settings ask for.
"""

import os
import sys


def main() -> None:
    os.umask(0o077)  # what is made here, the database first of all, is this account's alone
    if sys.argv[1:] == ["init"]:
        from console import environment

        sys.exit(environment.main())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
