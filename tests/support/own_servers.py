"""Servers of one's own as each of them speaks beside OpenAI's Chat Completions: Ollama, vLLM, llama.cpp, LM Studio.

Shapes as their documentation and reports have them (the sources are in `loopllama_cli.catalog.own_servers`). A server
holds answers to a schema where `holds_schema` says so, and its model calls a tool where `calls` says so.
"""

from __future__ import annotations

import json
import threading
from typing import Any

from support.loopback import Handler


class OwnServer(Handler):
    """What all have in common: a list, and chat. Subclasses say how they list and what else they know."""

    protocol_version = "HTTP/1.1"
    model = "house-model"
    takes_tools = True
    calls = True
    holds_schema = True
    key = ""
    seen: list[tuple[str, str]] = []  # noqa: RUF012 - a test gives its own
    lock = threading.Lock()

    def serve(self) -> None:
        """Answer one request."""
        body = json.loads(self.body() or b"null")
        with self.lock:
            self.seen.append((self.command, self.path))
        if self.key and self.headers.get("authorization") != f"Bearer {self.key}":
            self.say(401, {"error": "no"})
        elif self.path == "/v1/chat/completions" and self.command == "POST":
            self.chat(body)
        elif self.path == "/v1/models":
            self.say(200, {"object": "list", "data": self.listed()})
        else:
            self.other(self.command, self.path, body)

    def listed(self) -> list[dict[str, Any]]:
        """The list of models."""
        return [{"id": self.model, "object": "model"}]

    def other(self, method: str, path: str, body: Any) -> None:
        """Answer what only this server knows."""
        self.say(404, {"error": "not found"})

    def refusal(self) -> str:
        """What it says to tools that it does not take."""
        return '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'

    def chat(self, body: dict[str, Any]) -> None:
        """Answer a call of the model."""
        if body["model"] != self.model:
            return self.say(404, {"error": {"message": f"model '{body['model']}' not found"}})
        if body.get("tools") and not self.takes_tools:
            return self.say(400, {"error": {"message": self.refusal()}})
        message: dict[str, Any] = {"role": "assistant", "content": "Good day to you."}
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        used = any(said["role"] == "tool" for said in body["messages"])
        if schema and self.holds_schema:
            message["content"] = json.dumps(sample(schema))
        elif body.get("tools") and self.calls and not used:
            function = body["tools"][0]["function"]
            asked = {"name": function["name"], "arguments": json.dumps(sample(function["parameters"]))}
            message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": asked}]}
        return self.say(
            200,
            {
                "model": self.model,
                "choices": [{"message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 40, "completion_tokens": 8},
            },
        )

    def say(self, status: int, value: Any) -> None:
        """Answer with JSON."""
        self.answer(status, json.dumps(value), content_type="application/json")


class Ollama(OwnServer):
    """Ollama. The model says 131,072 tokens; the server gives it `window`, known once it is loaded."""

    model = "llama3.2:latest"
    window: int | None = 4096
    parameters = ""
    loaded = False
    can = ("completion", "tools")

    def listed(self) -> list[dict[str, Any]]:
        return [{"id": name, "object": "model", "owned_by": "library"} for name in (self.model, "nomic-embed:latest")]

    def refusal(self) -> str:
        return f"registry.ollama.ai/library/{self.model} does not support tools"

    def other(self, method: str, path: str, body: Any) -> None:
        if path == "/api/version":
            return self.say(200, {"version": "0.32.9"})
        if (method, path) == ("POST", "/api/show"):
            if body["model"] != self.model:
                return self.say(200, {"capabilities": ["embedding"], "model_info": {"bert.context_length": 2048}})
            info = {"general.architecture": "llama", "llama.context_length": 131072}
            return self.say(200, {"parameters": self.parameters, "model_info": info, "capabilities": list(self.can)})
        if path == "/api/ps":
            running = {"name": self.model, "model": self.model, "context_length": self.window}
            asked = ("POST", "/v1/chat/completions") in self.seen
            return self.say(200, {"models": [running] if asked and self.window else []})
        return self.say(404, {"error": "not found"})


class VLLM(OwnServer):
    """vLLM, started without `--enable-auto-tool-choice` where `takes_tools` is false."""

    model = "meta-llama/Llama-3.1-8B-Instruct"

    def listed(self) -> list[dict[str, Any]]:
        return [{"id": self.model, "object": "model", "owned_by": "vllm", "max_model_len": 8192}]


class LlamaCpp(OwnServer):
    """llama.cpp's server, with four slots."""

    model = "../models/small.gguf"
    template_tools = True

    def listed(self) -> list[dict[str, Any]]:
        reads = {"input_modalities": ["text"], "output_modalities": ["text"]}
        return [{"id": self.model, "architecture": reads, "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}]

    def other(self, method: str, path: str, body: Any) -> None:
        if (method, path) != ("GET", "/props"):
            return super().other(method, path, body)
        caps = {"supports_tools": self.template_tools, "supports_tool_calls": self.template_tools}
        return self.say(
            200,
            {
                "default_generation_settings": {"n_ctx": 2048, "params": {"n_predict": -1}},
                "total_slots": 4,
                "chat_template_caps": caps,
                "modalities": {"vision": False, "audio": False},
            },
        )


class LMStudio(OwnServer):
    """LM Studio, which answers 200 to addresses that it does not know."""

    model = "qwen3-4b"

    def other(self, method: str, path: str, body: Any) -> None:
        if path != "/api/v0/models":
            return self.say(200, {"error": f"Unexpected endpoint or method. ({method} {path})"})
        chat = {"id": self.model, "type": "vlm", "max_context_length": 40960, "loaded_context_length": 4096}
        embeds = {"id": "embedder", "type": "embeddings", "max_context_length": 512}
        return self.say(200, {"data": [chat | {"capabilities": ["tool_use"]}, embeds]})

    def listed(self) -> list[dict[str, Any]]:
        return [{"id": name, "object": "model"} for name in (self.model, "embedder")]


def sample(schema: Any) -> Any:
    """Return the plainest value of a JSON Schema, as far as these tests use it."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
    plain: dict[str, Any] = {"array": [], "boolean": True, "number": 1, "integer": 1, "null": None}
    return plain.get(kind, "2026-03-04" if schema.get("format") == "date" else "salve")
