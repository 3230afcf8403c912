"""What a server of one's own has, and what its models can do: Ollama, vLLM, llama.cpp's, LM Studio, or any other that
lists its models in OpenAI's way.

Every server has `GET /v1/models`. What else one tells is found by asking for it and looking at the answer's shape, not
at the provider's name or the status: LM Studio answers 200 to addresses that it does not know.

- vLLM: `max_model_len` in the list (github.com/vllm-project/vllm, issue 5959). Function tools are refused unless it was
  started with `--enable-auto-tool-choice`.
- llama.cpp: `GET /props`: `n_ctx` is the window of one slot, `total_slots` are the calls at once, `chat_template_caps`
  what the model's template can say (tools/server/README.md there).
- Ollama: `POST /api/show`: `capabilities`, and the model's own longest window. The window in use is shorter, 4,096
  tokens often, and longer prompts are cut without a word (github.com/ollama/ollama, issues 17889 and 5902);
  `GET /api/ps` tells it of a loaded model.
- LM Studio: `GET /api/v0/models`: `loaded_context_length`, `max_context_length`, `tool_use`
  (https://lmstudio.ai/docs/developer/rest/endpoints).

What nobody tells is tried: one short question with a tool, one that is held to a JSON Schema.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopllama.catalog.model import Model, is_model_id
from loopllama.catalog.providers import variables_of
from loopllama.core import exact_json
from loopllama.errors import (
    InvalidModelResponse,
    LoopLlamaError,
    ModelRequestRejected,
    ModelUnknown,
    OutputInvalid,
)
from loopllama.llm.structured_output import parse_answer
from loopllama.llm.types import Message, ModelRequest, ToolSpec

if TYPE_CHECKING:
    from loopllama.llm.types import ModelResponse, Provider
    from loopllama.providers.credentials import Credentials

ASK_SECONDS = 180.0
"""For one question: a server may have to load the model first."""
_LOOK_SECONDS = 10.0
_MOST_BYTES = 4 * 1024 * 1024
_MOST_MODELS = 1000
_START: Mapping[str, tuple[str, str]] = {
    "ollama": ("ollama serve", "ollama pull {}"),
    "vllm": ("vllm serve MODEL", "vllm serve {}"),
    "llamacpp": ("llama-server -m FILE.gguf", "llama-server -m FILE.gguf --alias {}"),
    "lmstudio": ("lms server start", "lms get {}"),
}
"""The commands that start a server, and that get it a model."""
_TOOL = ToolSpec(
    "get_weather",
    "Tell the weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
)
_SCHEMA = {
    "type": "object",
    "properties": {"greeting_in_latin": {"type": "string", "maxLength": 20}},
    "required": ["greeting_in_latin"],
    "additionalProperties": False,
}
"""What no model would answer to its question by itself."""


class ServerUnreachable(LoopLlamaError):
    """A server of one's own does not answer, or not as one that lists its models."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a server's model. `model` is the server's own id of it. What the server did not tell is `None`;
    `slots` is how many calls it answers at once."""

    model: str
    context_window: int | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    slots: int | None = None

    def entry(self, provider: str) -> dict[str, Any]:
        """Return the fields of the model's entry in the Models table; none of them is a price."""
        names = ("images", "reasoning", "structured_output", "tools")
        fields = {
            "provider": provider,
            "provider_model": self.model,
            "context_window": self.context_window,
            "capabilities": [name for name in names if getattr(self, name)],
            "max_concurrent_calls": self.slots,
        }
        return {name: value for name, value in fields.items() if value is not None}


class OwnServer:
    """A server at its base URL, asked over its own API."""

    def __init__(self, credentials: Credentials) -> None:
        self.provider = credentials.provider
        self._credentials = credentials
        self._base = credentials.base_url
        self._root = re.sub(r"/v1$", "", self._base)

    def models(self) -> list[Found]:
        """Return the models that answer questions, by id, each with what the server tells of it. Raises
        `ServerUnreachable`."""
        listed = self._look("GET", f"{self._base}/models", needed=True)
        if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
            raise ServerUnreachable(f"{self.provider}: {self._base}/models is no list of models{self._hint()}")
        entries = [entry for entry in listed["data"] if isinstance(entry, dict) and is_model_id(entry.get("id"))]
        ids = [str(entry["id"]) for entry in entries]
        props = self._look("GET", f"{self._root}/props") if len(ids) == 1 else None
        lm_studio = _by_id(self._look("GET", f"{self._root}/api/v0/models"))
        is_ollama = isinstance(_member(self._look("GET", f"{self._root}/api/version"), "version"), str)
        found = []
        for entry in entries[:_MOST_MODELS]:
            one: Found | None = _listed(entry)
            if one is not None and props is not None:
                one = _props(one, props)
            if one is not None and one.model in lm_studio:
                one = _lm_studio(one, lm_studio[one.model])
            if one is not None and is_ollama:
                one = _ollama(one, self._look("POST", f"{self._root}/api/show", {"model": one.model}))
            if one is not None:
                found.append(one)
        return sorted(found, key=lambda one: one.model)

    def _hint(self) -> str:
        return "" if self._base.endswith("/v1") else "; most servers have it below /v1, as in --base-url URL/v1"

    def chosen(self, names: Iterable[str]) -> list[Found]:
        """Return the named models, all without a name. Raises `ModelUnknown`, with the command that gets the server the
        model, and `ServerUnreachable`."""
        found = {one.model: one for one in self.models()}
        names = list(names)
        if not names:
            return list(found.values())
        return [found[self._name(name, found)] for name in names]

    def _name(self, name: str, found: Mapping[str, Found]) -> str:
        if name in found:
            return name
        if f"{name}:latest" in found:  # as Ollama reads a name without a tag
            return f"{name}:latest"
        has = ", ".join(list(found)[:10]) + (" and others" if len(found) > 10 else "")
        get = _START.get(self.provider, ("", ""))[1].format(name)
        raise ModelUnknown(
            f"{self.provider} at {self._base} has no model {name!r}; it has {has or 'none'}."
            + (f" Get it with: {get}" if get else "")
        )

    def tried(self, found: Found, provider: Provider) -> Found:
        """Return what is known with what two short questions show; `provider` is the adapter that asks them.

        Raises `ModelError` where the model does not answer.
        """
        called = _calls_tool(found, provider)
        tools = called if found.tools is None else found.tools and called is not None
        found = replace(found, tools=bool(tools or called), structured_output=_keeps_schema(found, provider))
        loaded = self._look("GET", f"{self._root}/api/ps")  # Ollama's, now that the model is loaded
        for one in _objects(loaded, "models"):
            length = _positive(one.get("context_length"))
            if length and found.model in (one.get("model"), one.get("name")):
                found = replace(found, context_window=length)
        return found

    def _look(self, method: str, url: str, body: Mapping[str, Any] | None = None, *, needed: bool = False) -> Any:
        """Return the JSON of an answer. Raises `ServerUnreachable` where there is no server, and, if it is `needed`,
        for any answer that is none."""
        import httpx

        key = self._credentials.api_key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # As for calls: a proxy of the environment is for https, and a key follows no redirect.
        secure = url.startswith("https:")
        until, content = time.monotonic() + _LOOK_SECONDS, bytearray()
        try:
            with (
                httpx.Client(trust_env=secure, timeout=_LOOK_SECONDS, follow_redirects=False) as client,
                client.stream(method, url, json=body, headers={**headers, **self._credentials.headers}) as answer,
            ):
                for chunk in answer.iter_bytes(65536):
                    content += chunk
                    if len(content) > _MOST_BYTES or time.monotonic() > until:
                        raise ServerUnreachable(f"{self.provider}: the answer of {url} is too long, or takes too long")
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            start = _START.get(self.provider, ("", ""))[0]
            raise ServerUnreachable(
                f"{self.provider} does not answer at {self._base}: {error or type(error).__name__}."
                + (f" Start it with: {start}; or" if start else "")
                + f" say where it is: export {variables_of(self.provider)[0]}_BASE_URL=URL"
            ) from error
        if not 200 <= status < 300:
            if not needed:
                return None
            hint = f"; {self._credentials.remedy()}" if status in (401, 403) else ""
            hint = hint or (self._hint() if status in (404, 405) else "")
            raise ServerUnreachable(f"{self.provider}: {url} answers HTTP {status}{hint}")
        try:
            return exact_json.loads_around(bytes(content))
        except ValueError:
            return None


def _listed(entry: Mapping[str, Any]) -> Found | None:
    """Read an entry of the list: vLLM's and llama.cpp's say more than OpenAI's. `None` for a model that does not
    generate text."""
    architecture, meta = _member(entry, "architecture"), _member(entry, "meta")
    window = _positive(entry.get("max_model_len")) or _positive(_member(meta, "n_ctx"))
    reads = _member(architecture, "input_modalities")
    return Found(str(entry["id"]), window, images="image" in reads if isinstance(reads, list) else None)


def _props(found: Found, props: Any) -> Found:
    settings, caps = _member(props, "default_generation_settings"), _member(props, "chat_template_caps")
    if not isinstance(settings, dict):
        return found
    tools = None
    if isinstance(caps, dict) and isinstance(caps.get("supports_tools"), bool):
        # A template without tools gets them described in the prompt: whether that does is tried.
        tools = True if caps["supports_tools"] and caps.get("supports_tool_calls") is not False else None
    vision = _member(_member(props, "modalities"), "vision")
    return replace(
        found,
        context_window=_positive(settings.get("n_ctx")) or found.context_window,
        tools=tools,
        images=vision if isinstance(vision, bool) else found.images,
        slots=_positive(_member(props, "total_slots")),
    )


def _ollama(found: Found, shown: Any) -> Found | None:
    can = _member(shown, "capabilities")
    info = _member(shown, "model_info")
    lengths = [
        _positive(value)
        for name, value in (info.items() if isinstance(info, dict) else ())
        if str(name).endswith(".context_length")
    ]
    parameters = _member(shown, "parameters")
    own = re.search(r"^\s*num_ctx\s+(\d{1,9})\s*$", parameters, re.MULTILINE) if isinstance(parameters, str) else None
    window = _positive(int(own[1])) if own else next(filter(None, lengths), None)
    if not isinstance(can, list):
        return replace(found, context_window=window or found.context_window)
    if "completion" not in can:
        return None
    return replace(
        found,
        context_window=window or found.context_window,
        tools="tools" in can,
        images="vision" in can,
        reasoning="thinking" in can,
    )


def _lm_studio(found: Found, told: Mapping[str, Any]) -> Found | None:
    if told.get("type") == "embeddings":
        return None
    window = _positive(told.get("loaded_context_length")) or _positive(told.get("max_context_length"))
    can = told.get("capabilities")
    return replace(
        found,
        context_window=window or found.context_window,
        tools="tool_use" in can if isinstance(can, list) else found.tools,
        images=told["type"] == "vlm" if isinstance(told.get("type"), str) else found.images,
    )


def _calls_tool(found: Found, provider: Provider) -> bool | None:
    """Return whether the model calls the tool that a question needs; `None` where the server takes no tools."""
    request = _question(found.model, "What is the weather in Paris? Call the tool get_weather.")
    try:
        answer = provider.complete(replace(request, tools=(_TOOL,)))
    except ModelRequestRejected:
        return None
    except InvalidModelResponse:  # an empty one, as small models give it
        return False
    return any(call.name == _TOOL.name and call.arguments is not None for call in answer.tool_calls)


def _keeps_schema(found: Found, provider: Provider) -> bool:
    """Return whether the server holds an answer to a schema that the question says nothing of."""
    request = replace(_question(found.model, "Greet me."), output_schema=_SCHEMA, max_tokens=128)
    try:
        answer: ModelResponse = provider.complete(request)
        parse_answer(answer.text, _SCHEMA)
    except (InvalidModelResponse, ModelRequestRejected, OutputInvalid):
        return False
    return answer.output_mode == "native"


def _question(model: str, text: str) -> ModelRequest:
    return ModelRequest(
        model=model,
        catalog_id=model,
        system="You are a helpful assistant.",
        messages=[Message("user", text)],
        timeout=ASK_SECONDS,
        max_tokens=256,
        temperature=0,
    )


def as_model(provider: str, found: Found) -> Model:
    """Return the catalog model by which an adapter for the found one is found."""
    return Model(f"{provider}:{found.model}", provider, found.model)


def _objects(value: Any, name: str) -> Iterator[Mapping[str, Any]]:
    listed = _member(value, name)
    return (one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict))


def _by_id(value: Any) -> dict[str, Mapping[str, Any]]:
    return {str(one.get("id")): one for one in _objects(value, "data")}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None
