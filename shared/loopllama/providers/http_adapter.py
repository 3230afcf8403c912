"""Adapters that POST JSON to a provider's address: what is the same in every wire format over HTTP.

A dialect of this kind holds its path, its request, its reading of an answer and its error codes. How a provider lets a
request in is an `Access` of its own, so that one wire format can be used behind several: a key in a header, or a
signature over the request.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from loopllama.core import exact_json, redaction
from loopllama.core.patterns import late
from loopllama.errors import CredentialsRejected, InvalidModelResponse, ModelError
from loopllama.llm.types import ModelRequest
from loopllama.providers import error_mapping, http
from loopllama.providers.adapter import Adapter
from loopllama.providers.credentials import Credentials, credentials_for, forget
from loopllama.settings import Settings

_ERROR_TYPE = late("[A-Za-z]{1,100}")


class Access(Protocol):
    """How a provider lets a request in."""

    def credentials(self, provider: str, settings: Settings, model: str) -> Credentials:
        """Return where the provider serves the model, by its own id, and what it knows us by. Raises `ModelError` where
        that is not known."""
        ...

    def headers(self, credentials: Credentials, url: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that let this request in."""
        ...

    def rejected(self, provider: str, settings: Settings) -> None:
        """Take note that the provider did not accept the credentials."""
        ...


class ApiKey:
    """A key in a header, from the environment or the provider's secret. No header is sent where there is no key."""

    def __init__(self, header: str = "authorization", prefix: str = "Bearer ") -> None:
        self._header = header
        self._prefix = prefix

    def credentials(self, provider: str, settings: Settings, model: str) -> Credentials:  # noqa: ARG002
        """Return the provider's key and address."""
        return credentials_for(provider, settings)

    def headers(self, credentials: Credentials, url: str, body: bytes) -> Mapping[str, str]:  # noqa: ARG002
        """Return the key's header."""
        return {self._header: f"{self._prefix}{credentials.api_key}"} if credentials.api_key else {}

    def rejected(self, provider: str, settings: Settings) -> None:
        """Read the secret again at its next use: somebody may have rotated the key."""
        forget(provider, settings)


class HttpAdapter(Adapter):
    """An adapter over HTTP.

    `access` lets its requests in; `headers` go with each of them. `codes` are the codes and types of error bodies whose
    meaning the HTTP status alone would not give.
    """

    access: ClassVar[Access] = ApiKey()
    headers: ClassVar[Mapping[str, str]] = {}
    codes: ClassVar[Mapping[str, type[ModelError]]] = {}

    @abstractmethod
    def url(self, credentials: Credentials, call: ModelRequest) -> str:
        """Return the address of the request."""

    @abstractmethod
    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body. The call's `options` are part of it and replace nothing else."""

    def is_error(self, value: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Return whether the document of an answer with a good status is an error's, as gateways send it."""
        return False

    def read_error(self, reply: http.Reply) -> tuple[list[str], str]:
        """Return the codes of an error, most telling first, and its message. AWS's services have theirs in a header."""
        codes, message = error_mapping.read_error(reply.body)
        code = _ERROR_TYPE.match(reply.headers.get("x-amzn-errortype", ""))
        return ([code[0], *codes] if code else codes), message

    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Make the one POST of a call."""
        return self.post(call, self.body(call), until)

    def post(self, call: ModelRequest, document: Mapping[str, Any], until: float) -> Mapping[str, Any]:
        """POST a document for a call, and return the answer's."""
        credentials = self.access.credentials(self.provider, self.settings, call.model)
        url = self.url(credentials, call)
        body = exact_json.dumps(document).encode()
        allowed = self.access.headers(credentials, url, body)
        headers = {"content-type": "application/json", **self.headers, **allowed, **credentials.headers}
        scrubber = self.sends([credentials.api_key, *redaction.of_headers(headers)])
        reply = http.post(url, headers, body, until, f"{self.provider} at {error_mapping.shown(url)}")
        # Here once more, before anything is cut off.
        reply = replace(reply, body=scrubber.raw(reply.body))
        if not 200 <= reply.status < 300:
            error = self.failure(call, credentials, url, reply)
            if isinstance(error, CredentialsRejected):
                self.access.rejected(self.provider, self.settings)
            raise error
        try:
            value = self.document(call, reply.body)
        except InvalidModelResponse as error:
            error.args = (f"{error} (at {error_mapping.shown(url)})",)
            if reply.body.lstrip()[:1] == b"<":
                # A web page under a good status: a console, or the start page of whatever else is there.
                error.args = (f"{error}. {error_mapping.what_is_missing(credentials, url)}",)
            raise
        if self.is_error(value):
            body = exact_json.dumps(value).encode()
            raise self.failure(call, credentials, url, replace(reply, status=error_mapping.status_in(value), body=body))
        return value

    def failure(self, call: ModelRequest, credentials: Credentials, url: str, reply: http.Reply) -> ModelError:
        """Return what an answer with an error's status stands for."""
        codes, message = self.read_error(reply)
        return error_mapping.failure(
            reply.status,
            reply.headers,
            codes,
            message,
            kinds=self.codes,
            credentials=credentials,
            model=call.catalog_id,
            url=url,
        )
