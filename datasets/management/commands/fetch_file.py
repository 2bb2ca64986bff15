"""`manage.py fetch_file`: the child of datasets.downloads that fetches one file."""

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from mlserver.lib.errors import AppError
from mlserver.lib.files import receive, require_space
from mlserver.lib.outgoing import download

LONGEST_SECONDS = 6 * 3600


class Command(BaseCommand):
    help = (
        "Fetch a file by the guarded way out. The server starts this for downloads that take "
        'long: {"url", "hops", "path", "announced"} as JSON on standard input, the answer as JSON '
        "on standard output."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        asked = json.load(sys.stdin)
        try:
            fetch(asked["url"], asked["hops"], Path(asked["path"]), Path(asked["announced"]))
            answer: dict[str, Any] = {"ok": True, "result": None}
        except AppError as error:
            answer = {"ok": False, "error": {"code": error.code, "message": error.detail}}
        self.stdout.write(json.dumps(answer))


def fetch(url: str, hops: int, path: Path, announced: Path) -> None:
    with download(url, total_seconds=LONGEST_SECONDS, most_hops=hops) as answer:
        if answer.size_bytes is not None:
            require_space(path.parent, answer.size_bytes)
            announced.write_text(str(answer.size_bytes))
        receive(answer.chunks, path, max_bytes=settings.MAX_UPLOAD_SIZE)
