"""What a server's refusal of a key, or its silence, becomes: errors that say what to do, over REST.

They are also qdrant-client's own, for those who catch these. Over gRPC its errors stay as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from clip_qdrant.errors import ServerAccessError, ServerUnreachableError

if TYPE_CHECKING:
    from httpx import Request, Response

_REFUSALS = (401, 403)
_LONGEST_REASON = 200


class KeyRefusedError(ServerAccessError, UnexpectedResponse):
    """The server refuses the key, or the lack of one."""

    def __init__(self, request: Request, response: Response) -> None:
        UnexpectedResponse.__init__(
            self, response.status_code, response.reason_phrase, response.content, response.headers
        )
        self._message = (
            f"The Qdrant server at {_server(request)} refuses access ({response.status_code}: "
            f"{response.text[:_LONGEST_REASON]}). Give its key: connect(url, api_key=…), or QDRANT_API_KEY on the "
            "command line; a key may also be for reading only, or for other collections."
        )

    def __str__(self) -> str:
        return self._message


class NoAnswerError(ServerUnreachableError, ResponseHandlingException):
    """The server could not be asked, or did not answer in time."""

    def __init__(self, request: Request, failure: ResponseHandlingException) -> None:
        ResponseHandlingException.__init__(self, failure.source)
        reason = str(failure.source) or type(failure.source).__name__
        self._message = (
            f"The Qdrant server at {_server(request)} does not answer: {reason}. Check the URL and that it runs, or "
            "give it more time with connect(url, timeout=seconds)."
        )

    def __str__(self) -> str:
        return self._message


def explain(request: Request, send: Callable[[Request], Response]) -> Response:
    """A middleware for qdrant-client's REST client.

    Raises:
        ServerAccessError: the server refuses the key.
        ServerUnreachableError: it does not answer.
    """
    try:
        response = send(request)
    except ResponseHandlingException as error:
        raise NoAnswerError(request, error) from error
    return _accepted(request, response)


async def explain_async(request: Request, send: Callable[[Request], Awaitable[Response]]) -> Response:
    """The same for the asynchronous client."""
    try:
        response = await send(request)
    except ResponseHandlingException as error:
        raise NoAnswerError(request, error) from error
    return _accepted(request, response)


def _accepted(request: Request, response: Response) -> Response:
    if response.status_code in _REFUSALS:
        raise KeyRefusedError(request, response)
    return response


def _server(request: Request) -> str:
    """Scheme, host and port, without the password that a URL may have."""
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
