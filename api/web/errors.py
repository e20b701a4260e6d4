"""Errors of the API, and the handlers that turn every exception into one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from promptreel.api.db.clock import now, wire_time
from promptreel.api.web.json_response import JsonResponse
from promptreel.api.web.page import SIGN_IN_PATH, page, sign_in_first
from promptreel.api.web.paths import is_page
from promptreel.schemas.errors import (
    InvalidInput,
    MediaError,
    PicklableError,
    RunDamaged,
    RunNotFound,
    StateExpired,
    StorageError,
)

_log = logging.getLogger(__name__)

MAX_NAMED_IDS: Final = 50  # ids of a batch in one error
_MAX_PATHS: Final = 20  # unknown fields of one object in a response

DATABASE_ERRORS = (OperationalError, PoolTimeout)  # unreachable, full or locked, or the connection pool is exhausted


class ApiError(PicklableError):
    """An error response.

    Args:
        status: HTTP status.
        code: machine-readable code.
        message: sentence for users, with the value and the fix.
        retry_after_s: seconds until the request may be retried; required with 429.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = dict(details) if details is not None else None
        self.retry_after_s = retry_after_s


def not_found(kind: str, identifier: str, owner: str | None = None) -> ApiError:
    """Return a 404. Ids of other accounts get the same response as unknown ids.

    Args:
        owner: the kind of resource that the id belongs to, if the missing one has none of its own.
    """
    return ApiError(
        404,
        f"resource_{kind}_not_found",
        f"{_words(kind)} {identifier if owner is None else f'of {_words(owner).lower()} {identifier}'} does not exist.",
        {f"{owner or kind}_id": identifier},
    )


def none_found(kind: str, identifiers: Sequence[str]) -> ApiError:
    """Return a 404 that names all missing resources of a batch, up to `MAX_NAMED_IDS`."""
    if len(identifiers) == 1:
        return not_found(kind, identifiers[0])
    plural = "es" if kind.endswith("x") else "s"
    message = f"{_words(kind)}{plural} {name_ids(identifiers)} do not exist."
    details = {f"{kind}_id": identifiers[0], f"{kind}_ids": list(identifiers[:MAX_NAMED_IDS])}
    return ApiError(404, f"resource_{kind}_not_found", message, details)


def _words(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


def name_ids(identifiers: Sequence[str]) -> str:
    """List ids in a message, up to `MAX_NAMED_IDS`.

    >>> name_ids(["vid_1", "vid_2"])
    'vid_1, vid_2'
    """
    named = ", ".join(identifiers[:MAX_NAMED_IDS])
    return named if len(identifiers) <= MAX_NAMED_IDS else f"{named} and {len(identifiers) - MAX_NAMED_IDS} more"


def invalid(message: str, path: str = "") -> ApiError:
    """Return a 422 for a well-formed request with an invalid value."""
    return ApiError(422, "validation_failed", message, {"errors": [{"path": path, "message": message}]})


def conflict(code: str, message: str, **details: Any) -> ApiError:
    """Return a 409: the state of the resource does not allow the request."""
    return ApiError(409, code, message, details or None)


def database_unavailable(error: Exception) -> ApiError:
    """Return a 503, and log the cause."""
    _log.error("database: %s", error)
    return ApiError(503, "database_unavailable", "The database is unavailable; try again.", None, 5)


def error_body(error: ApiError, request_id: str | None) -> dict[str, Any]:
    """Return the JSON body of an error."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "details": error.details,
            "request_id": request_id,
            "timestamp": wire_time(now()),
        }
    }


def error_response(request: Request, error: ApiError) -> Response:
    """Render an error as a response: for a page as HTML or, without a session, as the way to sign in."""
    if is_page(request.url.path):
        return _error_page(request, error)
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s is not None else {}
    if error.status == 405:
        headers["Allow"] = str((error.details or {}).get("allowed", ""))
    body = error_body(error, request.scope.get("request_id"))
    return JsonResponse(body, status_code=error.status, headers=headers)


def _error_page(request: Request, error: ApiError) -> Response:
    if error.status == 401 and request.url.path != SIGN_IN_PATH:
        return sign_in_first(request)
    if error.code == "endpoint_not_supported":
        error = ApiError(404, error.code, f"There is no page at {request.url.path}.")
    request_id = request.scope.get("request_id")
    response = page(request, "error.html", status=error.status, error=error, request_id=request_id)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def install_error_handlers(app: FastAPI) -> None:
    """Install handlers that turn every exception into the API's error format."""

    @app.exception_handler(ApiError)
    def _api_error(request: Request, error: ApiError) -> Response:
        return error_response(request, error)

    @app.exception_handler(InvalidInput)
    def _invalid_input(request: Request, error: InvalidInput) -> Response:
        return error_response(request, invalid(str(error)))

    @app.exception_handler(MediaError)
    def _media_error(request: Request, error: MediaError) -> Response:
        details = {"errors": [{"path": "", "message": error.message}], "failure_code": error.code}
        status = 413 if error.code == "media_too_large" else 422
        return error_response(request, ApiError(status, error.code, error.message, details))

    @app.exception_handler(RunNotFound)
    def _run_not_found(request: Request, error: RunNotFound) -> Response:
        return error_response(
            request, ApiError(404, "resource_run_not_found", "The data of this run no longer exists.")
        )

    @app.exception_handler(RunDamaged)
    def _run_damaged(request: Request, error: RunDamaged) -> Response:
        _log.error("%s", error, extra={"run_id": error.run_id})
        message = f"Run {error.run_id} is damaged: {error.file} {error.cause}."
        details = {"run_id": error.run_id, "file": error.file}
        return error_response(request, ApiError(409, "run_damaged", message, details))

    @app.exception_handler(StateExpired)
    def _state_expired(request: Request, error: StateExpired) -> Response:
        message = f"Newer results of run {error.run_id} replaced those that were read; send the request again."
        return error_response(request, ApiError(409, "results_replaced", message, {"run_id": error.run_id}))

    @app.exception_handler(DataError)
    def _data_error(request: Request, error: DataError) -> Response:
        return error_response(request, invalid("The request contains a value that cannot be stored, e.g. NUL."))

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    def _database_error(request: Request, error: Exception) -> Response:
        return error_response(request, database_unavailable(error))

    @app.exception_handler(StorageError)
    def _storage_error(request: Request, error: StorageError) -> Response:
        _log.error("storage: %s", error)
        return error_response(
            request, ApiError(503, "storage_unavailable", "Storage is unavailable; try again.", None, 5)
        )

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, error: RequestValidationError) -> Response:
        return error_response(request, _validation_error(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        return error_response(request, _http_error(request, error))

    @app.exception_handler(Exception)
    def _unexpected_error(request: Request, error: Exception) -> Response:
        _log.exception("request %s failed", request.scope.get("request_id"), exc_info=error)
        message = "Internal error; see the service's log under the request id."
        response = error_response(request, ApiError(500, "internal_error", message))
        # This handler runs outside the middleware.
        response.headers["X-Request-ID"] = request.scope.get("request_id") or ""
        return response


def _validation_error(error: RequestValidationError) -> ApiError:
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "json_invalid":
            reason = problem.get("ctx", {}).get("error", "")
            return ApiError(400, "malformed_json", f"The body is not valid JSON: {reason}.")
    errors = [{"path": path, "message": str(problem["msg"])} for problem in problems for path in _paths_of(problem)]
    first = f"{errors[0]['path']}: {errors[0]['message']}" if errors else "The request is invalid."
    return ApiError(422, "validation_failed", first, {"errors": errors})


def _paths_of(problem: Mapping[str, Any]) -> list[str]:
    """Return the path of a problem, or those of the unknown fields that it names."""
    path = ".".join(str(part) for part in problem["loc"])
    fields = problem["ctx"]["fields"] if problem["type"] == "unknown_field" else ()
    return [f"{path}.{field}" for field in fields[:_MAX_PATHS]] or [path]


def _http_error(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        message = f"{request.method} {request.url.path} is not part of this API."
        return ApiError(404, "endpoint_not_supported", message)
    if error.status_code == 405:
        message = f"{request.url.path} does not support {request.method}."
        return ApiError(405, "method_not_allowed", message, {"allowed": _allowed_methods(request, error)})
    if error.status_code == 413:
        return ApiError(413, "media_too_large", str(error.detail))
    if error.status_code == 400:
        return ApiError(400, "malformed_request", str(error.detail))
    return ApiError(error.status_code, "request_failed", str(error.detail))


def _allowed_methods(request: Request, error: HTTPException) -> str:
    """Return the Allow header of a path. The exception lists only the methods of one route, so collect those of all."""
    paths, path = request.app.openapi()["paths"], request.url.path
    matching = [path] if path in paths else [known for known in paths if compile_path(known)[0].fullmatch(path)]
    allowed = {method.upper() for known in matching for method in paths[known]}
    return ", ".join(sorted(allowed)) or (error.headers or {}).get("Allow", "")
