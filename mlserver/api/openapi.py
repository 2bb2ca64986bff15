"""What the OpenAPI document says of every endpoint: how to come in, and how an error looks."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from mlserver.api.errors import problem_type
from mlserver.lib.origin import API_PREFIXES

SENTENCES = {
    "400": "The request cannot be read.",
    "401": "No key, or one that is not valid.",
    "403": "Known, but not allowed.",
    "404": "No such thing.",
    "409": "The state or the name of the thing does not allow it.",
    "413": "More bytes than the server takes.",
    "422": "Readable, but a value cannot be accepted; `errors` names it.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "503": "Not now; `Retry-After` says when.",
}
PROBLEM_EXAMPLE = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "limit must be between 1 and 1000, got 5000.",
    "code": "invalid",
    "errors": [
        {
            "field": "limit",
            "message": "limit must be between 1 and 1000, got 5000",
            "code": "invalid",
            "value": "5000",
        }
    ],
    "request_id": "6f0d6c1e2b7d4b0f8a55c0b8f2a1d9e3",
}
FIELD_ERROR_SCHEMA = {
    "type": "object",
    "required": ["field", "message", "code", "value"],
    "properties": {
        "field": {"type": "string", "description": "Dotted where it lies inside another."},
        "message": {"type": "string"},
        "code": {"type": "string"},
        "value": {"description": "What was sent, unless it is secret or long."},
    },
}
PROBLEM_SCHEMA = {
    "type": "object",
    "description": "RFC 9457. `detail` is always a sentence, `code` always a stable word.",
    "required": ["type", "title", "status", "detail", "code", "errors", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}},
        "request_id": {"type": "string"},
    },
    "example": PROBLEM_EXAMPLE,
}
METHODS = ("get", "post", "put", "patch", "delete")


class KeySchemes(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Named by its path: this package knows no app."""

    target_class = "accounts.authentication.KeyAuthentication"
    name = ["bearer", "header"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "A key or a token: `Bearer mls_…`"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key"},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        return [{"bearer": []}, {"header": []}]


def document_problems(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """A postprocessing hook of drf-spectacular: every operation says how it refuses."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"], schemas["FieldError"] = PROBLEM_SCHEMA, FIELD_ERROR_SCHEMA
    for route, operations in result["paths"].items():
        for method in METHODS:
            if operation := operations.get(method):
                _add_csv(operation)
                _add_problems(route, method, operation)
    return result


def _add_csv(operation: dict[str, Any]) -> None:
    """As mlserver.api.tables has it: every list."""
    content = operation["responses"].get("200", {}).get("content", {})
    listed = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    if listed.startswith("#/components/schemas/Paginated"):
        content["text/csv"] = {"schema": {"type": "string"}}


def _add_problems(route: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status in _expected(route, method, operation):
        responses.setdefault(
            status,
            {
                "description": SENTENCES[status],
                "content": {
                    problem_type(route): {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            },
        )


def _expected(route: str, method: str, operation: dict[str, Any]) -> list[str]:
    expected = ["503"]
    if route.startswith(API_PREFIXES):
        expected.append("429")
    if operation.get("security"):
        expected += ["401", "403"]
    if "{" in route:
        expected.append("404")
    if "requestBody" in operation:
        expected += ["400", "413"]
    if "requestBody" in operation or operation.get("parameters"):
        expected.append("422")
    if method in ("post", "delete", "patch", "put") and "{" in route:
        expected.append("409")
    return sorted(expected)
