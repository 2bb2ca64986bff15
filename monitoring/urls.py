"""The doors of `monitoring`: REST under /api/v1/, pages at the root."""

from django.urls import URLPattern, URLResolver, path

from mlserver.api.routing import SlashOptionalRouter, path_either
from monitoring import alert_views, api, stream, views
from monitoring.alert_api import AlertRuleViewSet, AlertViewSet

router = SlashOptionalRouter()
router.register("system/alerts", AlertViewSet, basename="alert")
router.register("system/alert-rules", AlertRuleViewSet, basename="alert-rule")

api_patterns: list[URLPattern | URLResolver] = [
    path_either("config", api.ConfigView.as_view(), name="config"),
    path_either("system/info", api.SystemInfoView.as_view(), name="system-info"),
    path_either("system/gpus", api.GpusView.as_view(), name="system-gpus"),
    path_either("system/gpus/<str:uuid>/use", api.GpuUseView.as_view(), name="gpu-use"),
    path_either("system/processes", api.ProcessesView.as_view(), name="system-processes"),
    path_either("system/history", api.HistoryView.as_view(), name="system-history"),
    path_either(
        "sessions/<str:session_id>/events", stream.SessionStream.as_view(), name="session-events"
    ),
    *router.urls,
]
page_patterns: list[URLPattern | URLResolver] = [
    path("", views.root, name="overview-page"),
    path_either("system/", views.system_page, name="system-page"),
    path_either("system/history.csv", views.history_csv, name="history-csv"),
    path_either("system/gpus/<str:uuid>/", views.gpu_page, name="gpu-page"),
    path_either("system/alerts/", alert_views.list_page, name="alerts-page"),
    path_either("system/alerts/<int:alert_id>/acknowledge/", alert_views.acknowledge),
    path_either("system/alerts/rules/new/", alert_views.rule_page, name="alert-rule-new"),
    path_either("system/alerts/rules/<int:rule_id>/", alert_views.rule_page, name="alert-rule"),
    *[
        path_either(f"system/alerts/rules/<int:rule_id>/{verb}/", alert_views.act, {"verb": verb})
        for verb in alert_views.VERBS
    ],
    path_either("health", api.HealthView.as_view(), name="health"),
    path_either("health/live", api.LiveView.as_view(), name="health-live"),
    path_either("health/ready", api.ReadyView.as_view(), name="health-ready"),
    path_either("metrics", api.MetricsView.as_view(), name="metrics"),
    path_either("stream", stream.PageStream.as_view(), name="stream"),
]
