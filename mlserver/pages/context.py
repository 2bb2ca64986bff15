"""What every template knows: the machine's name, the version, what this person may."""

import socket
from typing import Any

from django.http import HttpRequest

from mlserver.api.permissions import OPERATOR, has_role, role_of
from mlserver.version import VERSION


def site(request: HttpRequest) -> dict[str, Any]:
    known = hasattr(request, "user") and request.user.is_authenticated
    return {
        "host_name": socket.gethostname(),
        "version": VERSION,
        "base_url": f"{request.scheme}://{request.get_host()}",
        "role": role_of(request.user) if known else "",
        "can_operate": known and has_role(request.user, OPERATOR),
    }
