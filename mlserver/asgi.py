"""The ASGI application that uvicorn serves: the data plane of inference, and Django behind it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlserver.settings")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402

from inference.metering import count_answer as count_inference  # noqa: E402
from inference.plane import open_inference, openai, predict, texts  # noqa: E402
from inference.plane.application import Plane  # noqa: E402

# The addresses are read now: code that cannot be imported must fail the start, not every request.
from mlserver import urls  # noqa: E402, F401
from mlserver.bodies import LimitedBodies  # noqa: E402  (reads the settings)
from monitoring.metering import count_exchange  # noqa: E402

# Under ASGI every request has a thread of its own: a connection that outlived it would never be
# used again, and a hundred of them are all that PostgreSQL gives.
for database in settings.DATABASES.values():
    database["CONN_MAX_AGE"] = 0

# Routes of the data plane; see inference.plane. Every other request goes to Django.
ROUTES = [*predict.ROUTES, *open_inference.ROUTES, *texts.ROUTES, *openai.ROUTES]

application = Plane(ROUTES, LimitedBodies(django_application), [count_exchange, count_inference])
