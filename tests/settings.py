"""The console's settings with secrets that only tests have."""

import atexit
import base64
import os
import shutil
import tempfile

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("POSTERN_MASTER_KEY", base64.urlsafe_b64encode(b"t" * 32).decode())
for _variable, _purpose in (("POSTERN_STATE_DIR", "state"), ("STATIC_ROOT", "static")):
    if _variable not in os.environ:
        os.environ[_variable] = tempfile.mkdtemp(prefix=f"postern-test-{_purpose}-")
        atexit.register(shutil.rmtree, os.environ[_variable], ignore_errors=True)
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")
os.environ.setdefault("REVOCATION_FROM", "127.0.0.0/8")
os.environ["POSTERN_ENV_FILE"] = os.devnull

from console.settings import *  # noqa: E402, F403

# The manifest exists only after collectstatic; tests read the files as they are.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
