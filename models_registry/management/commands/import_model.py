"""`manage.py import_model PATH --name NAME`: what the upload does, for files on this machine."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services import find_owner
from mlserver.lib.errors import AppError
from models_registry.models import ModelVersion
from models_registry.serializers import VersionSerializer
from models_registry.uploads import add_model, opened


class Command(BaseCommand):
    help = (
        "Take a model of this machine into the registry: a Hugging Face folder with safetensors "
        "(or a ZIP or TAR of one), an ONNX file, a safetensors file, a model folder of this "
        "server. It is looked through in a locked process. Under an existing name it becomes the "
        "next version; the very same files again change nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path, help="a file, or a folder whose files are taken")
        parser.add_argument("--name", required=True, help="org/name becomes org--name")
        parser.add_argument("--description", default="")
        parser.add_argument("--owner", help="user name; by default the first admin")
        parser.add_argument("--json", action="store_true", help="print the facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with opened(options["path"]) as files:
                version, is_new = add_model(
                    owner=find_owner(options["owner"]),
                    name=options["name"],
                    files=files,
                    description=options["description"],
                )
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be read: {error.strerror}.") from error
        except AppError as error:
            raise CommandError(error.detail) from error
        self._tell(version, is_new, as_json=options["json"])

    def _tell(self, version: ModelVersion, is_new: bool, *, as_json: bool) -> None:
        if as_json:
            facts = VersionSerializer(version).data | {"is_new": is_new}
            self.stdout.write(json.dumps(facts, indent=2, default=str))
        elif is_new:
            self.stdout.write(f"{version}: {version.framework}, {version.task}.")
        else:
            self.stdout.write(f"These very files are {version} already.")
