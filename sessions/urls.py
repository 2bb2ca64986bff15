"""The doors of `sessions`: REST under /api/v1/, pages at the root."""

from django.urls import URLPattern, URLResolver

from mlserver.api.routing import SlashOptionalRouter, path_either
from sessions import compare_view, doors, new_training, views
from sessions.api import SessionViewSet

router = SlashOptionalRouter()
router.register("sessions", SessionViewSet, basename="session")

api_patterns: list[URLPattern | URLResolver] = [
    *router.urls,
    path_either("training/start", doors.TrainingStartView.as_view(), name="training-start"),
    path_either(
        "training/status/<str:job_id>", doors.TrainingStatusView.as_view(), name="training-status"
    ),
    path_either("training/jobs", doors.TrainingJobsView.as_view(), name="training-jobs"),
]
page_patterns: list[URLPattern | URLResolver] = [
    path_either("sessions/", views.list_page, name="sessions-page"),
    path_either("sessions/new/", new_training.new_page, name="session-new"),
    path_either("sessions/new/try/", new_training.try_page, name="session-try"),
    path_either("compare/", compare_view.compare_page, name="compare"),
    path_either("sessions/queue/hold/", views.hold, name="queue-hold"),
    path_either("sessions/queue/resume/", views.lift, name="queue-resume"),
    path_either("sessions/<str:session_id>/", views.session_page, name="session-page"),
    *[
        path_either(f"sessions/<str:session_id>/{action}/", views.act, {"action": action})
        for action in views.ACTIONS
    ],
    path_either("sessions/<str:session_id>/priority/", views.change_priority),
    path_either("sessions/<str:session_id>/delete/", views.delete),
]
