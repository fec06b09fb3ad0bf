"""What is not an answer: errors in the API's envelope, and connections that are cut."""

from collections.abc import Mapping
from typing import Any

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class Dropped(Exception):
    """The connection is to be cut without an answer, or without the rest of it."""


class ApiError(Exception):
    """An answer in the error envelope of the API; `headers` go with it."""

    def __init__(
        self, status: int, message: str, *, error_code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error: dict[str, Any] = {"type": _TYPES.get(status, "api_error"), "message": message}
        if error_code is not None:
            self.error["details"] = {"error_code": error_code}

    def envelope(self, request_id: str | None) -> dict[str, Any]:
        """Return the JSON object that tells of the error."""
        return {"type": "error", "error": self.error, "request_id": request_id}
