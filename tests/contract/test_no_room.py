"""A server of one's own that has no room for a model, or cannot load it: that lasts, so the next model is tried at
once, and the step does not wait for it."""

from __future__ import annotations

import pytest
from support.dialects.base import adapter_of, request_to
from support.dialects.openai import OpenAIDialect
from support.wire_server import Reply, WireServer

from loopllama.errors import ModelError, ModelNotAvailable, ModelUnavailable

OPENAI = OpenAIDialect()


def refused_by(provider: str, server: WireServer, patch: pytest.MonkeyPatch, status: int, said: str) -> ModelError:
    patch.setenv(f"{provider.upper()}_BASE_URL", f"{server.url}/v1")
    patch.setenv(f"{provider.upper()}_API_KEY", "sk-0123456789")
    # Ollama's own type for every error of its own, and llama.cpp's.
    server.script(Reply(status, {"error": {"message": said, "type": "server_error", "code": None}}))
    with pytest.raises(ModelError) as caught:
        adapter_of(provider).complete(request_to(OPENAI, model="m"))
    return caught.value


@pytest.mark.parametrize(
    ("provider", "status", "said"),
    [
        ("ollama", 500, "model requires more system memory (7.5 GiB) than is available (5.2 GiB)"),
        ("ollama", 500, "llama runner process has terminated: CUDA error: out of memory"),
        ("ollama", 500, "llama runner process has terminated: cudaMalloc failed: out of memory"),
        ("ollama", 500, "llama runner process has terminated: error loading model: unable to allocate backend buffer"),
        (
            "ollama",
            500,
            "model failed to load, this may be due to resource limitations or an internal error, check ollama server "
            "logs for details",
        ),
        (
            "lmstudio",
            400,
            'Failed to load model "m". Error: Model loading was stopped due to insufficient system resources. Under '
            "the current settings, this model requires approximately 40.01 GB of memory",
        ),
        ("lmstudio", 400, "Not enough resources to load the model with the current settings"),
        ("llamacpp", 500, "model name=m failed to load"),
        ("llamacpp", 500, "failed to load model '/models/m.gguf'"),
        ("vllm", 500, "CUDA out of memory. Tried to allocate 50.00 MiB. GPU 0 has a total capacity of 23.56 GiB"),
        ("house", 503, "torch.OutOfMemoryError: HIP out of memory."),
    ],
)
def test_the_next_model_is_tried_at_once(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, provider: str, status: int, said: str
) -> None:
    error = refused_by(provider, server, monkeypatch, status, said)
    assert type(error) is ModelNotAvailable
    assert (error.next_model, error.later) == (True, False)
    assert "free memory there" in str(error)
    assert said in str(error)


@pytest.mark.parametrize(
    ("provider", "status", "said"),
    [
        (
            "ollama",
            500,
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal",
        ),
        ("llamacpp", 503, "Loading model"),
        ("vllm", 500, "EngineCore encountered an issue. See stack trace (above) for the root cause."),
        ("together", 500, "CUDA out of memory. Tried to allocate 50.00 MiB."),
    ],
)
def test_what_passes_is_tried_again(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, provider: str, status: int, said: str
) -> None:
    """Also what another machine of a provider may do better."""
    error = refused_by(provider, server, monkeypatch, status, said)
    assert type(error) is ModelUnavailable
    assert error.later
