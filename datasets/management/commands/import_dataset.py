"""`manage.py import_dataset FILE`: what the upload does, for a file on this machine."""

import json
from pathlib import Path
from typing import Any

from django.core.files.base import File
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services import find_owner
from datasets.models import DatasetVersion
from datasets.services import add_upload
from mlserver.lib.errors import AppError


class Command(BaseCommand):
    help = (
        "Take a file of this machine in as a dataset: CSV, TSV, JSON, JSON Lines, Parquet, NPY, "
        "NPZ, plain text (.txt) or a ZIP of images with one folder a class. Under an existing "
        "name it becomes the next version; the very same file again changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--name", default="", help="by default the file's")
        parser.add_argument("--target", help="column to learn; by default label, target, class, y")
        parser.add_argument("--description", default="")
        parser.add_argument("--owner", help="user name; by default the first admin")
        parser.add_argument("--json", action="store_true", help="print the facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        try:
            with path.open("rb") as stream:
                version, is_new = add_upload(
                    owner=find_owner(options["owner"]),
                    name=options["name"],
                    upload=File(stream, name=path.name),
                    target=options["target"],
                    description=options["description"],
                )
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
        except AppError as error:
            raise CommandError(error.detail) from error
        self._tell(version, is_new, as_json=options["json"])

    def _tell(self, version: DatasetVersion, is_new: bool, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(_facts(version, is_new), indent=2))
            return
        if not is_new:
            self.stdout.write(f"This very file is {version} already.")
            return
        self.stdout.write(f"{version} holds {version.sample_count:,} samples ({version.kind}).")
        for warning in version.schema["warnings"]:
            self.stdout.write(self.style.WARNING(warning))


def _facts(version: DatasetVersion, is_new: bool) -> dict[str, Any]:
    return {
        "dataset": version.dataset.name,
        "version": version.number,
        "is_new": is_new,
        "format": version.format,
        "kind": version.kind,
        "sample_count": version.sample_count,
        "dimensions": version.dimensions,
        "size_bytes": version.size_bytes,
        "sha256": version.sha256,
        "target": version.schema["target"],
        "warnings": version.schema["warnings"],
    }
