"""Every path of the server. Each app lists its own; here they come together."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

import accounts.urls
import datasets.urls
import inference.urls
import jobs.urls
import models_registry.urls
import monitoring.urls
import sessions.urls
from mlserver.api import root, uploads

APPS = [
    root,
    uploads,
    accounts.urls,
    jobs.urls,
    datasets.urls,
    inference.urls,
    models_registry.urls,
    sessions.urls,
    monitoring.urls,
]

urlpatterns = [
    path("api/v1/", include([pattern for app in APPS for pattern in app.api_patterns])),
    path("admin/", admin.site.urls),
    path("admin", RedirectView.as_view(url="/admin/")),  # Django's own pages know one spelling
    *[pattern for app in APPS for pattern in app.page_patterns],
]

handler400 = "mlserver.api.errors.bad_request"
handler403 = "mlserver.api.errors.forbidden"
handler404 = "mlserver.api.errors.not_found"
handler500 = "mlserver.api.errors.server_error"
