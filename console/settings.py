"""Environment → settings. Every name here is documented in docs/settings.md.

Each value may also come from a file: `SECRET_KEY_FILE=/run/secrets/key` is read in place of `SECRET_KEY`.
"""

import base64
import binascii
from pathlib import Path

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from console import environment
from gateway.core.addresses import parse_network
from gateway.core.destinations import Destinations
from identity.core.commands import command

env = environ.FileAwareEnv()
HOME_DIR = Path(env.str("POSTERN_HOME", default=str(environment.home({}))))
POSTERN_ENV_FILE = Path(env.str("POSTERN_ENV_FILE", default=str(HOME_DIR / "postern.env")))
if POSTERN_ENV_FILE.is_file():
    environ.Env.read_env(str(POSTERN_ENV_FILE))


def _master_key(name: str, text: str) -> bytes:
    """32 bytes from base64url text; padding may be left off."""
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise ImproperlyConfigured(f"{name} is not base64url text; make one with: {command('new-key')}") from error
    if len(key) != 32:
        raise ImproperlyConfigured(f"{name} holds {len(key)} bytes; exactly 32 are needed ({command('new-key')})")
    return key


def _required(name: str, why: str) -> str:
    value: str = env.str(name, default="")
    if not value:
        raise ImproperlyConfigured(f"Set {name} (or {name}_FILE): {why}")
    return value


DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = _required("SECRET_KEY", "it signs the console's sessions; any long random text")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])

# Private keys and passwords are sealed with the first; the previous ones still open (manage.py rotate-master-key).
POSTERN_MASTER_KEY = _master_key(
    "POSTERN_MASTER_KEY", _required("POSTERN_MASTER_KEY", "it seals private keys and passwords; 32 bytes, base64url")
)
POSTERN_MASTER_KEY_PREVIOUS = [
    _master_key("POSTERN_MASTER_KEY_PREVIOUS", text) for text in env.list("POSTERN_MASTER_KEY_PREVIOUS", default=[])
]
POSTERN_STATE_DIR = Path(env.str("POSTERN_STATE_DIR", default=str(HOME_DIR / "state")))

# How nodes run: processes for each, where each tells of itself (node=HOST:PORT), where requests are written to.
POSTERN_WORKERS = env.int("POSTERN_WORKERS", default=1)
POSTERN_STATUS: dict[str, str] = env.dict("POSTERN_STATUS", default={})
POSTERN_ACCESS_LOG = env.str("POSTERN_ACCESS_LOG", default="")

# Nodes on machines of their own: where the courier takes their links, and at which addresses they reach it.
CONSOLE_NODES_BIND = env.str("CONSOLE_NODES_BIND", default="")
CONSOLE_NODES_ADDRESS = env.list("CONSOLE_NODES_ADDRESS", default=[CONSOLE_NODES_BIND] if CONSOLE_NODES_BIND else [])

# The signed identity header `Postern-Identity` that a service may ask for (identity_headers: jwt).
POSTERN_JWT_KEYSTORE = env.str("POSTERN_JWT_KEYSTORE", default="")
POSTERN_JWT_ISSUER = env.str("POSTERN_JWT_ISSUER", default="postern")
POSTERN_JWT_AUDIENCE = env.str("POSTERN_JWT_AUDIENCE", default="backend")
POSTERN_JWT_SECONDS = env.int("POSTERN_JWT_SECONDS", default=60)

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "identity.apps.IdentityConfig",
    "gateway.apps.GatewayConfig",
    "console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "console.middleware.CallersAddress",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "console.middleware.Language",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.middleware.LoginRequired",
    "console.middleware.NoNul",
    "console.middleware.Pace",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = "console.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [environment.RESOURCES / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.navigation",
            ],
            "builtins": [
                "django.templatetags.static",
                "django.templatetags.i18n",
                "console.templatetags.console",
            ],
        },
    }
]

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{HOME_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Writers queue instead of failing, readers never wait for them.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE",
        timeout=20,
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    )
else:  # a connection is kept from request to request, and asked first whether it still stands
    DATABASES["default"] = {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True} | DATABASES["default"]

AUTH_USER_MODEL = "console.Operator"
AUTHENTICATION_BACKENDS = ["console.authentication.OperatorBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "console.passwords.NotBreached",
        "OPTIONS": {"path": env.str("CONSOLE_BREACHED_PASSWORDS", default="")},
    },
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"
# An operator's account and a caller's address are each refused for a while after this many wrong passwords.
CONSOLE_LOGIN_FAILURES = env.int("CONSOLE_LOGIN_FAILURES", default=5)
CONSOLE_LOGIN_LOCK_SECONDS = env.int("CONSOLE_LOGIN_LOCK_SECONDS", default=300)

# What costs is done so often for an operator, and a token may call so often: at once, and in each minute from then on.
CONSOLE_COSTLY_PER_MINUTE = env.int("CONSOLE_COSTLY_PER_MINUTE", default=120)
CONSOLE_API_PER_MINUTE = env.int("CONSOLE_API_PER_MINUTE", default=1200)
if CONSOLE_COSTLY_PER_MINUTE < 1 or CONSOLE_API_PER_MINUTE < 1:
    raise ImproperlyConfigured(
        "CONSOLE_COSTLY_PER_MINUTE and CONSOLE_API_PER_MINUTE are whole numbers, 1 or more: 120 and 1200"
    )

# Where revocation lists may be fetched from: hosts, .domains, networks.
try:
    REVOCATION_FROM = Destinations.of(env.list("REVOCATION_FROM", default=[]))
except ValueError as error:
    raise ImproperlyConfigured(f"REVOCATION_FROM: {error}") from error

# What ends: days before it at which somebody hears of it, once each, by mail and by a call to a URL.
EXPIRY_DAYS = env.list("EXPIRY_DAYS", cast=int, default=[60, 30, 10, 3])
EXPIRY_CRL_DAYS = env.list("EXPIRY_CRL_DAYS", cast=int, default=[1])
EXPIRY_MAIL_TO = env.list("EXPIRY_MAIL_TO", default=[])
EXPIRY_MAIL_FROM = env.str("EXPIRY_MAIL_FROM", default="postern@localhost")
EXPIRY_WEBHOOK = env.str("EXPIRY_WEBHOOK", default="")
EXPIRY_WEBHOOK_SECRET = env.str("EXPIRY_WEBHOOK_SECRET", default="")
if any(days < 1 for days in (*EXPIRY_DAYS, *EXPIRY_CRL_DAYS)) or not EXPIRY_DAYS:
    raise ImproperlyConfigured("EXPIRY_DAYS and EXPIRY_CRL_DAYS are whole numbers of days, 1 or more: 60,30,10,3")
if EXPIRY_WEBHOOK and not EXPIRY_WEBHOOK_SECRET:
    raise ImproperlyConfigured("Set EXPIRY_WEBHOOK_SECRET: calls to EXPIRY_WEBHOOK are signed with it")
vars().update(env.email_url("EMAIL_URL", default="dummymail://"))
EMAIL_TIMEOUT = 15  # seconds
# What nodes refused is kept for so many days, and the last so many of requests and of handshakes each.
REFUSALS_DAYS = env.int("REFUSALS_DAYS", default=30)
REFUSALS_KEPT = env.int("REFUSALS_KEPT", default=50_000)
if REFUSALS_DAYS < 1 or REFUSALS_KEPT < 1:
    raise ImproperlyConfigured("REFUSALS_DAYS and REFUSALS_KEPT are whole numbers, 1 or more: 30 and 50000")
# Whoever sends this as a bearer token reads /metrics; without it there are none.
CONSOLE_METRICS_TOKEN = env.str("CONSOLE_METRICS_TOKEN", default="")
# Where operators reach the console, for links in messages.
CONSOLE_URL = env.str("CONSOLE_URL", default="").rstrip("/")

# TLS in front of the console is what decides whether cookies may be "secure".
CONSOLE_HTTPS = env.bool("CONSOLE_HTTPS", default=False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONSOLE_HTTPS
if CONSOLE_HTTPS:  # the prefix: no host beside this one, and nobody on plain HTTP, can set such a cookie
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
# Proxies that tell in X-Forwarded-For who calls; without one the address of the connection is the caller's.
try:
    CONSOLE_TRUSTED_PROXIES = tuple(map(parse_network, env.list("CONSOLE_TRUSTED_PROXIES", default=[])))
except ValueError as error:
    raise ImproperlyConfigured(f"CONSOLE_TRUSTED_PROXIES: {error}") from error
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "console.views.errors.csrf_failure"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Strict"
SESSION_ENGINE = "console.sessions"
SESSION_COOKIE_AGE = env.int("CONSOLE_SESSION_SECONDS", default=8 * 3600)
CONSOLE_IDLE_SECONDS = env.int("CONSOLE_IDLE_SECONDS", default=3600)
# For how long a proof is good for what is secret or dangerous, before it is asked for again.
CONSOLE_CONFIRM_SECONDS = env.int("CONSOLE_CONFIRM_SECONDS", default=600)
CONSOLE_SECOND_FACTOR = env.str("CONSOLE_SECOND_FACTOR", default="optional")
if CONSOLE_SECOND_FACTOR not in ("optional", "required"):
    raise ImproperlyConfigured(f"CONSOLE_SECOND_FACTOR is {CONSOLE_SECOND_FACTOR!r}; optional or required is known")

# Sign-on by an OpenID Connect provider; none unless CONSOLE_OIDC_ISSUER is set.
CONSOLE_OIDC_ISSUER = env.str("CONSOLE_OIDC_ISSUER", default="")
CONSOLE_OIDC_NAME = env.str("CONSOLE_OIDC_NAME", default="single sign-on")
CONSOLE_OIDC_CLIENT_ID = env.str("CONSOLE_OIDC_CLIENT_ID", default="")
CONSOLE_OIDC_CLIENT_SECRET = env.str("CONSOLE_OIDC_CLIENT_SECRET", default="")
CONSOLE_OIDC_SCOPES = env.list("CONSOLE_OIDC_SCOPES", default=["openid", "profile"])
CONSOLE_OIDC_USERNAME_CLAIM = env.str("CONSOLE_OIDC_USERNAME_CLAIM", default="preferred_username")
CONSOLE_OIDC_ROLE_CLAIM = env.str("CONSOLE_OIDC_ROLE_CLAIM", default="")
CONSOLE_OIDC_ROLES: dict[str, str] = env.dict("CONSOLE_OIDC_ROLES", default={})
if _unknown := set(CONSOLE_OIDC_ROLES.values()) - {"viewer", "operator", "security", "owner"}:
    raise ImproperlyConfigured(f"CONSOLE_OIDC_ROLES: there is no role {', '.join(sorted(_unknown))}")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if CONSOLE_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_SSL_REDIRECT = CONSOLE_HTTPS
# Asked on this host, past the proxy; and what programs ask: one that is led on has sent its token in the clear, and
# nobody notices. The API refuses it.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^metrics$", r"^api/", r"^\.well-known/"]
# Browsers' preload lists take whole domains, which are not ours to put there.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
if CONSOLE_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

# A certificate upload is small; what is larger is refused by the form with a reason, and never gathered in memory.
DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# Pages come in the language that the reader chose, else in what the browser asks for; docs/languages.md.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_PATHS = [environment.RESOURCES / "locale"]
LANGUAGE_COOKIE_NAME = "__Host-language" if CONSOLE_HTTPS else "language"
LANGUAGE_COOKIE_SECURE = CONSOLE_HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_AGE = 400 * 24 * 3600  # the longest that browsers keep one
USE_I18N = True
USE_TZ = True
TIME_ZONE = env.str("TIME_ZONE", default="UTC")

STATIC_URL = "static/"
STATIC_ROOT = Path(
    env.str(
        "STATIC_ROOT",
        default=str(environment.RESOURCES / "staticfiles" if environment.IN_CHECKOUT else HOME_DIR / "static"),
    )
)
STATICFILES_DIRS = [environment.RESOURCES / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "format": "{asctime} {levelname} {name}: {message}",
            "()": "identity.core.log_lines.Formatter",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
}
