"""All settings, from the environment (see mlserver.env); one file, no base/dev/prod split."""

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
from corsheaders.defaults import default_headers
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from mlserver import env, logs
from mlserver.version import VERSION

BASE_DIR = Path(__file__).resolve().parent.parent
env.load_dotenv(BASE_DIR / ".env")

# --- Where run-time data lies -----------------------------------------------------------
VAR_DIR = env.directory("VAR_DIR", BASE_DIR / "var", under=BASE_DIR)
DATASETS_DIR = env.directory("DATASETS_DIR", VAR_DIR / "datasets", under=VAR_DIR)
MODELS_DIR = env.directory("MODELS_DIR", VAR_DIR / "models", under=VAR_DIR)
# Besides MODELS_DIR: where `path` of POST /models/load may lie. Only read.
MODEL_IMPORT_DIRS = env.directories("MODEL_IMPORT_DIRS")
RUNS_DIR = env.directory("RUNS_DIR", VAR_DIR / "runs", under=VAR_DIR)
TRASH_DIR = env.directory("TRASH_DIR", VAR_DIR / "trash", under=VAR_DIR)
for _folder in (VAR_DIR, DATASETS_DIR, MODELS_DIR, RUNS_DIR, TRASH_DIR):
    _folder.mkdir(parents=True, exist_ok=True)
# Where the web processes count together; prometheus_client reads the name at its import.
METRICS_DIR = VAR_DIR / "metrics"
METRICS_DIR.mkdir(exist_ok=True)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_DIR)


def _embedded_secret_key() -> str:
    """Made once for the embedded set-up; a set-up with its own database must name its own."""
    path = VAR_DIR / "secret_key"
    if not path.exists():
        # Linked into place whole: of processes that start together all read what the first wrote.
        draft = VAR_DIR / f"secret_key.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text().strip()


# --- Who may reach it -------------------------------------------------------------------
DEBUG = env.flag("DEBUG")
API_HOST = env.text("API_HOST", "127.0.0.1")
API_PORT = env.number("API_PORT", 8000, minimum=1)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.names("ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = env.names("PUBLIC_URL")
API_KEY_PEPPER = env.secret("API_KEY_PEPPER")
API_KEYS = env.secret("API_KEYS")  # entries `key` or `name:role:key`, separated by commas
ALLOW_ANONYMOUS = env.names("ALLOW_ANONYMOUS")  # of: inference, models, training, metrics
# Only from these addresses and networks do X-Forwarded-For, X-Real-IP and X-Forwarded-Proto count.
TRUSTED_PROXIES = env.names("TRUSTED_PROXIES")
RATE_LIMIT_ENABLED = env.flag("RATE_LIMIT_ENABLED", True)
RATE_LIMIT_REQUESTS = env.number("RATE_LIMIT_REQUESTS", 100, minimum=1)
RATE_LIMIT_PERIOD = env.number("RATE_LIMIT_PERIOD", 60, minimum=1)  # seconds

# --- Database ---------------------------------------------------------------------------
DATABASE_URL = env.secret("DATABASE_URL")
if DATABASE_URL:
    DATABASES: dict[str, Any] = {
        "default": dj_database_url.parse(DATABASE_URL, conn_max_age=None, conn_health_checks=True)
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "db.sqlite3",
            # Without a kept connection django-q2 enqueues 39 tasks a second, with it 3,600.
            "CONN_MAX_AGE": None,
            "TEST": {"NAME": VAR_DIR / "test.sqlite3"},
        }
    }
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Django's defaults answer 38 % of the writes of eight writers with "database is locked".
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;"
            "PRAGMA journal_size_limit=67108864; PRAGMA temp_store=MEMORY; PRAGMA foreign_keys=ON;"
        ),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = env.secret("SECRET_KEY")
if not SECRET_KEY:
    if DATABASE_URL:
        raise ImproperlyConfigured("Set SECRET_KEY (or SECRET_KEY_FILE) when DATABASE_URL is set.")
    SECRET_KEY = _embedded_secret_key()

REDIS_URL = env.secret("REDIS_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}

# --- Applications -----------------------------------------------------------------------
INSTALLED_APPS = [
    "mlserver.apps.MLServerConfig",
    "accounts",
    "jobs",
    "datasets",
    "models_registry",
    "sessions",
    "inference",
    "monitoring",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "servestatic",
    "corsheaders",
    "axes",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_q",
]
MIDDLEWARE = [
    "mlserver.api.aliases.root_aliases",
    "mlserver.api.proxies.believe_proxies",
    "mlserver.api.middleware.request_id",
    "monitoring.metering.count_requests",
    "mlserver.api.request_log.log_requests",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "mlserver.api.compression.compress_static",
    "servestatic.middleware.ServeStaticMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.RateLimit",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "mlserver.api.middleware.Problems",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "mlserver.urls"
ASGI_APPLICATION = "mlserver.asgi.application"
APPEND_SLASH = False  # both spellings answer; a redirect would lose a POST body
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "mlserver.pages.context.site",
                "monitoring.navigation.navigation",
            ]
        },
    }
]
CSRF_FAILURE_VIEW = "mlserver.api.errors.csrf_failure"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
# --- Signing in: guarded against guessing -------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AXES_FAILURE_LIMIT = env.number("LOGIN_FAILURE_LIMIT", 5, minimum=1)
AXES_COOLOFF_TIME = timedelta(minutes=env.number("LOGIN_COOLOFF_MINUTES", 15, minimum=1))
# The pair: nobody can lock somebody else out from another address.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # or a script locks its owner out for ever
AXES_DISABLE_ACCESS_LOG = True  # AuthLog has it
AXES_SENSITIVE_PARAMETERS = ["password", "csrfmiddlewaretoken"]
AXES_LOCKOUT_CALLABLE = "accounts.lockout.answer_locked_out"
AXES_VERBOSE = False

# --- Tokens (JWT) -------------------------------------------------------------------------
# A key of their own: changing it ends all tokens, and no browser login.
_JWT_KEY = env.secret("JWT_SIGNING_KEY")
SIMPLE_JWT = {
    "SIGNING_KEY": _JWT_KEY
    or hmac.new(SECRET_KEY.encode(), b"mlserver.jwt", hashlib.sha256).hexdigest(),
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=env.number("JWT_ACCESS_MINUTES", 15, minimum=1)),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=env.number("JWT_REFRESH_DAYS", 7, minimum=1)),
    "ROTATE_REFRESH_TOKENS": True,
    "BLACKLIST_AFTER_ROTATION": True,
    "CHECK_REVOKE_TOKEN": True,  # a changed password ends them
}

# --- Other sites' pages (CORS) ------------------------------------------------------------
CORS_ORIGINS = env.names("CORS_ORIGINS")
CORS_ALLOW_ALL_ORIGINS = CORS_ORIGINS == ["*"]
CORS_ALLOWED_ORIGINS = [] if CORS_ALLOW_ALL_ORIGINS else CORS_ORIGINS
# Keys only: with cookies, another site could act as whoever is signed in here.
CORS_ALLOW_CREDENTIALS = False
CORS_URLS_REGEX = r"^/(api|v1|v2|health|openapi\.json)(/|$)"
CORS_ALLOW_HEADERS = [*default_headers, "x-api-key", "x-request-id", "idempotency-key"]
CORS_EXPOSE_HEADERS = [
    "x-request-id",
    "x-process-time",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "retry-after",
    "etag",
]

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

# --- Static files -----------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # servestatic warns where it is missing
STATICFILES_DIRS = [BASE_DIR / "static"]
SERVESTATIC_USE_FINDERS = True  # nothing to collect before the first start

# --- Headers ----------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
# TLS ends at a proxy, which also redirects plain HTTP (hence W008) and decides about the
# other names of its domain (W005, W021).
BEHIND_TLS = any(url.startswith("https://") for url in CSRF_TRUSTED_ORIGINS)
if TRUSTED_PROXIES:
    # `believe_proxies` removes the header where it comes from anybody else.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = BEHIND_TLS
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if BEHIND_TLS else 0
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]

# --- Uploads ----------------------------------------------------------------------------
MAX_UPLOAD_SIZE = env.number("MAX_UPLOAD_SIZE", 10 * 2**30, minimum=1)  # bytes
# Models of formats that can run code are opened only in a locked process; without Landlock not
# at all, unless this is set. TorchScript is a program: only admins may bring it, and only if set.
ALLOW_UNSANDBOXED_MODELS = env.flag("ALLOW_UNSANDBOXED_MODELS")
ALLOW_TORCHSCRIPT = env.flag("ALLOW_TORCHSCRIPT")
# The name that huggingface_hub reads, too: base models then come from this server alone.
HF_HUB_OFFLINE = env.flag("HF_HUB_OFFLINE")
HF_TOKEN = env.secret("HF_TOKEN")  # only for trainings that start from a model of the hub
HF_ENDPOINT = env.text("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20  # bodies that are not files
FILE_UPLOAD_TEMP_DIR = VAR_DIR / "uploads"  # on the target volume, so that a rename is enough
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)

# --- How long things are kept -------------------------------------------------------------
TRASH_DAYS = env.number("TRASH_DAYS", 7)  # how long what was deleted can be taken back
AUTH_LOG_DAYS = env.number("AUTH_LOG_DAYS", 90)  # attempts to come in; 0: for ever
JOB_RETENTION_HOURS = env.number("JOB_RETENTION_HOURS", 168)  # errands that are done; 0: for ever

# --- REST -------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.KeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["mlserver.api.permissions.RolePermission"],
    "URL_FORMAT_OVERRIDE": None,  # ?format= filters the datasets; DRF would take it for itself
    "DEFAULT_PARSER_CLASSES": ["mlserver.api.json.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["mlserver.api.json.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "mlserver.api.tables.Negotiation",
    "DEFAULT_FILTER_BACKENDS": ["mlserver.api.paging.DeclaredFilters"],
    "DEFAULT_PAGINATION_CLASS": "mlserver.api.paging.SkipLimitPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mlserver.api.errors.problem_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "mlserver",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "DESCRIPTION": (
        "Upload a dataset, start a training, follow it live, keep what it learned. Send a key as "
        "`Authorization: Bearer <key>` or `X-API-Key: <key>`. Every error is an "
        "`application/problem+json` with a sentence in `detail` and a stable word in `code`."
    ),
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {
        "TrainingStatusEnum": "sessions.door_serializers.STATUSES",
        "LoadedStateEnum": "inference.models.State",
    },
    "COMPONENT_SPLIT_REQUEST": True,  # an upload's body is not what is answered
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "mlserver.api.openapi.document_problems",
    ],
}

# --- The queue --------------------------------------------------------------------------
# A message is only a wake-up; the Job row is the truth. `retry` counts from dequeue,
# so a slice of work must end well before it.
SLICE_SECONDS = 5
LEASE_SECONDS = 15
# A training without progress for so long, or for ten of its steps, is ended and tried again.
HANG_SECONDS = env.number("HANG_SECONDS", 120, minimum=1)
_CLUSTER = {
    "orm": "default",
    "timeout": 20,
    "retry": 25,
    "max_attempts": 3,
    "ack_failures": True,
    "poll": 0.2,
    "recycle": 5000,
    "save_limit": 100,
    "catch_up": False,
    "label": "Queue",
}
CANARY_SECONDS = 15
# `serve` keeps a process ready that has imported what trainers need (250 MB).
WARM_TRAINER = env.flag("WARM_TRAINER", True)
TRAINER_SOCKET = VAR_DIR / "run" / "trainer.sock"
MAX_CONCURRENT_SESSIONS = env.number("MAX_CONCURRENT_SESSIONS", 0)  # 0: one per GPU, 1 without
MAX_CONCURRENT_JOBS = env.number("MAX_CONCURRENT_JOBS", 2, minimum=1)  # short errands at once
# What a first start trains (`manage.py seed_demo`); "none" for nothing.
DEMO_MODELS = env.names("DEMO_MODELS", "digits,code-security,code-generator")
Q_CLUSTER = {
    **_CLUSTER,
    "name": "default",
    "workers": MAX_CONCURRENT_JOBS,
    "ALT_CLUSTERS": {"gpu": {**_CLUSTER, "workers": 2}},
}
# Which service does which kind of job, and in which cluster: `jobs` knows no kind.
JOB_KINDS = {
    "train": {
        "cluster": "gpu",
        "slice": "sessions.supervision.supervise_slice",
        "abandon": "sessions.supervision.abandon",
        "seats": "sessions.services.count_seats",
    },
    "dataset_statistics": {
        "cluster": "default",
        "slice": "datasets.statistics.work",
        "abandon": "datasets.statistics.abandon",
        "seats": "datasets.statistics.count_seats",
    },
    "dataset_download": {
        "cluster": "default",
        "slice": "datasets.downloads.work",
        "abandon": "datasets.downloads.abandon",
        "seats": "datasets.downloads.count_seats",
    },
    "demo": {
        "cluster": "default",
        "slice": "sessions.demo.work",
        "abandon": "sessions.demo.abandon",
        "seats": "sessions.demo.count_seats",
    },
}

# Who reads the hardware's history for a session: `sessions` is older than `monitoring`.
HARDWARE_HISTORY = "monitoring.training_readings.read_readings"

# --- Event streams ----------------------------------------------------------------------
MAX_EVENT_STREAMS = env.number("MAX_EVENT_STREAMS", 400, minimum=1)  # a thread each

# --- Models in memory -------------------------------------------------------------------
SOCKETS_DIR = VAR_DIR / "run" / "inference"  # of the workers, for this user alone
MODEL_MEMORY_MB = env.number("MODEL_MEMORY_MB", 0)  # a device; 0: 80 % of what is free
MAX_LOADED_MODELS = env.number("MAX_LOADED_MODELS", 10, minimum=1)
# Of each web process; what is more is answered 503, come again in a second.
MAX_INFERENCE_REQUESTS = env.number("MAX_INFERENCE_REQUESTS", 1024, minimum=1)  # at once
MAX_INFERENCE_SIZE = env.number("MAX_INFERENCE_SIZE", 64 * 2**20, minimum=1)  # bytes of a body
MAX_INFERENCE_MEMORY = env.number("MAX_INFERENCE_MEMORY", 2**30, minimum=1)  # bytes, all bodies

# --- Messages to other servers ----------------------------------------------------------
ALLOWED_PRIVATE_HOSTS = env.names("ALLOWED_PRIVATE_HOSTS")  # names, addresses, networks
WEBHOOK_TIMEOUT = env.number("WEBHOOK_TIMEOUT", 10, minimum=1)  # seconds
WEBHOOK_RETRY_LIMIT = env.number("WEBHOOK_RETRY_LIMIT", 7)

# --- Logs -------------------------------------------------------------------------------
LOG_LEVEL = env.text("LOG_LEVEL", "INFO").upper()
LOG_FORMAT = env.text("LOG_FORMAT", "text").lower()
LOGGING = logs.configuration(
    level=LOG_LEVEL, style=LOG_FORMAT, file=VAR_DIR / "logs" / "server.log"
)
