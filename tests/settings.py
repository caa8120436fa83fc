"""The console's settings with secrets that only tests have."""

import base64
import os
import tempfile

os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 40)
os.environ.setdefault("POSTERN_MASTER_KEY", base64.urlsafe_b64encode(b"t" * 32).decode())
os.environ.setdefault("POSTERN_STATE_DIR", tempfile.mkdtemp(prefix="postern-test-state-"))
os.environ.setdefault("STATIC_ROOT", tempfile.mkdtemp(prefix="postern-test-static-"))
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")
os.environ.setdefault("REVOCATION_FROM", "127.0.0.0/8")
os.environ["POSTERN_ENV_FILE"] = os.devnull

from console.settings import *  # noqa: F403

# The manifest exists only after collectstatic; tests read the files as they are.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
