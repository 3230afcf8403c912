"""What providers say of an error, by what it means. Statuses and codes say little: one has a code for what another one
only has words for. `error_mapping` decides with it.
"""

from __future__ import annotations

import re

from loopllama.core.patterns import late

_PROMPT = (
    r"(?:prompts?|inputs?|messages|conversation|context|requests?|(?:prompt|input|total|number of) tokens|token count"
    r"|tokens in (?:the )?request)"
)
_EXCEEDS = (
    r"(?:too (?:long|large|big)|exceed\w*|(?:is|are) (?:greater|larger|longer|more) than|(?:longer|more) than max)"
)
_BETWEEN = r"(?:(?!\b(?:description|name|schema|field|value|parameter|tool)s?\b)[^.]){0,80}?"
TOO_LONG = late(
    rf"\b{_PROMPT}\b{_BETWEEN}\b{_EXCEEDS}\b[^.]{{0,60}}?"
    r"\b(?:tokens?|length|context|window|characters|model'?s? (?:token )?limit|limit (?:of |is )?\d{4,12})\b"
    rf"|length of (?:\w+ ){{0,3}}{_PROMPT}\b[^.]{{0,60}}{_EXCEEDS}|(?:messages|input)\b\S{{0,40}}: string too long"
    r"|(?<!than the `)(?:context|input)[ _](?:length|window|size|limit)|(?:input|prompt)_tokens?_exceed"
    r"|(?:prompt|input|request) (?:is )?too long|reduce the length of (?:the|your) (?:messages|prompt|input)"
    r"|too many (?:input|total) tokens|too many tokens: |exceeds? the maximum (?:number of )?(?:input )?tokens"
    r"|too large for model with \d+ maximum|range of input length|input characters? limit"
    r"|maximum (?:prompt|input|sequence) length|tokens? \+ .?max_new_tokens.? must be|max message tokens"
    r"|exceeded maximum allowed content length"
    r"|longer than the maximum model length|\binputs\b.{0,3} must have less than|max_tokens must be at least 1, got -",
    re.IGNORECASE,
)
"""That a prompt exceeds what the model reads, in whatever words. Groq says of a limit of the answer, not of the prompt,
that it is "less than the `context_window`". Words of their own have Z.ai's 1261 "Prompt exceeds max length"
(github.com/earendil-works/pi, issue 129), Perplexity "The total length of all messages is too long"
(github.com/BerriAI/litellm, pull request 21647), Copilot "prompt token count of 200000 exceeds the limit of 128000",
Qwen "Range of input length should be …", Cohere "too many tokens: size limit exceeded by 1523 tokens", TGI "`inputs`
must have less than 4096 tokens", vLLM "The decoder prompt (length 2136) is longer than the maximum model length of
2048", also with status 500, and, where a prompt leaves no room for an answer, "max_tokens must be at least 1, got
-500"."""
_NO_MONEY = (
    r"credit balance|insufficient (?:account )?(?:balance|credits?|funds)|out of credits?|(?:spend(?:ing)?|billing)"
    r"(?: hard)? (?:limit|cap)\b|(?:used all|requires more) (?:available )?credits|credits? (?:are|is) depleted"
    r"|in good standing|arrears|arrearage|balance is (?:insufficient|too low)|past invoices"
    r"|account is not active|\bcredit limit|key limit exceeded|(?:doesn't|does not) have any credits"
    r"|extra usage is required"
    r"|budget has been exceeded|exceededbudget|\bover (?:its |your )?budget\b|\u4f59\u989d\u4e0d\u8db3"
)
OUT_OF_MONEY = late(_NO_MONEY, re.IGNORECASE)
"""What says that money is missing, whatever the status: Z.ai's 1113 "Insufficient balance or no resource package"
(in Chinese too), LiteLLM's proxy "Budget has been exceeded!" and "ExceededBudget" (https://docs.litellm.ai/docs/proxy/
users), Gemini "Your prepayment credits are depleted" and its monthly spending cap, Together "Credit limit exceeded",
OpenAI "Your account is not active", all of them with 429 as well; OpenRouter "Key limit exceeded (total limit)"."""
OUT_OF_CREDIT = late(
    _NO_MONEY + r"|insufficient quota|exceeded your current quota|usage limit|monthly included credits"
    r"|free (?:allocated |tier )?quota\b.{0,20}(?:exceeded|exhausted)",
    re.IGNORECASE,
)
"""The same with what, under status 429, may be said of a quota of a minute: Gemini has these words for it."""
NO_CREDIT = {
    *("insufficient_quota", "billing_hard_limit_reached", "credit_balance_exhausted", "billing_error"),
    *("exceeded_current_quota_error", "budget_exceeded", "billing_not_active", "credit_limit"),
}
"""Codes for it, some of them with status 429: OpenAI's, Anthropic's, Moonshot's
(https://platform.moonshot.ai/docs/api/chat, errors), LiteLLM's proxy's."""
_MODEL_NAME = r"(?: (?:id|name|identifier|version))?(?:(?: is)?:)?(?: ?[\"'`(]?[\w./:@-]{1,160}[\"'`)]?[,;]?)?"
_GONE = (
    r"(?:do(?:es)? not exist|doesn't exist|not exist|(?:is|was|are)(?: not|n't)(?: currently)? (?:found|available)"
    r"|(?:can|could) ?(?:not|n't) be found|not found|(?:is|has been) (?:now )?(?:no longer|decommissioned|deprecated"
    r"|retired|discontinued|unavailable|shut down))"
)
NO_MODEL = late(
    rf"\b(?:model|deployment|endpoint)\b{_MODEL_NAME} ?{_GONE}|\bmodels/[\w.@-]{{1,160}} {_GONE}"
    r"|\b(?:no|unknown|invalid|unavailable) (?:such )?model(?: (?:id|name|identifier))?\b(?! (?:output|response|input))"
    r"|not a valid model\b|not found the model\b|unable to access (?:non-serverless )?model\b"
    r"|(?:don't|do not|does not) have access to (?:the |this )?model\b|\bno models? (?:is |are )?loaded\b"
    r"|failed to load (?:the )?model\b|\bmodel (?:is )?not loaded\b|\bno chat-capable models?\b",
    re.IGNORECASE,
)
"""That the model is not there: it is what is missing, with at most its name between. Bedrock writes "The model returned
the following errors" before whatever Claude says of a request. The last are LM Studio's (github.com/NousResearch/
hermes-agent, pull request 62765)."""
STOPPED = late(r"\bmodel (?:has |was |is )?(?:unloaded|crashed)|\bmodel is (?:still )?loading", re.IGNORECASE)
"""LM Studio's words, with status 400, for a model that another one has displaced or that has died: the next request
loads it again."""
UNREADABLE = late(
    r"tool_use_failed|output_parse_failed|json_validate_failed|failed to call a function"
    r"|error parsing tool call|failed to parse input at pos|invalid sequence as part of tooluse",
    re.IGNORECASE,
)
"""Codes and messages of servers that refuse what their own model wrote: Groq (status 400,
https://console.groq.com/docs/errors and github.com/pydantic/pydantic-ai, pull request 2774), Ollama (500,
github.com/ollama/ollama, issue 17638), llama.cpp (500, github.com/ggml-org/llama.cpp, issue 24644), Nova on Bedrock
(424, github.com/strands-agents/harness-sdk, issue 649). The request was right, and the next answer to it may be."""
FILTERED = late(
    r"content[ _]?(?:filter|policy)|content_?blocked|content exists risk|inappropriate content|data_?inspection_?failed"
    r"|\busage (?:policy|policies|guidelines)|flagged (?:by|as|for)|safety (?:system|policy)|considered high[ -]risk"
    r"|blocked by (?:the |our )?(?:safety|moderation)|(?:cyber|bio)_policy|new_sensitive|\u654f\u611f"
    r"|unsafe or sensitive content|prohibited_content",
    re.IGNORECASE,
)
"""What filters say that refuse a prompt, or what came of it, with a status of the request's: Anthropic "Output blocked
by content filtering policy", OpenAI `invalid_prompt` and `cyber_policy`, DeepSeek "Content Exists Risk"
(github.com/NousResearch/hermes-agent, issue 115218), Qwen `data_inspection_failed` (github.com/QwenLM/qwen-code, issue
2905), OpenRouter and xAI with status 403, MiniMax `new_sensitive`, Z.ai's 1301 (in Chinese too)."""
TEMPLATE = late(r"jinja exception|chat template|requires --jinja", re.IGNORECASE)
"""llama.cpp's words, with status 500, for a conversation that the model's template does not take, or for tools where it
was started without templates (github.com/ggml-org/llama.cpp, common/chat.cpp): trying later is of no use, another form
may be."""
STREAM_ONLY = late(
    r"only supports? stream|\bstream must be (?:set to )?true|stream(?:ing)? is (?:strongly recommended|required)"
    r"|(?:enable|use|require[sd]?) (?:the )?stream(?:ing)?\b.{0,20}(?:parameter|mode|only)|non[- ]?streaming\b.{0,40}"
    r"(?:not (?:be )?(?:supported|allowed|available)|unsupported|disabled)|for non-?streaming calls"
    r"|support\w* (?:when|with|for) \W{0,2}stream ?= ?false|\u975e\u6d41\u5f0f\u8c03\u7528",
    re.IGNORECASE,
)
"""That an answer is given in pieces only: QwQ at Alibaba "This model only support stream mode, please enable the stream
parameter" (github.com/infiniflow/ragflow, issue 5912), Qwen 3 there, which thinks by itself, "parameter.enable_thinking
must be set to false for non-streaming calls" (github.com/langchain4j/langchain4j, issue 3974; in Chinese too),
ModelScope "enable thinking can not be support when `stream=False`" (github.com/musistudio/claude-code-router, issue
948), gateways before OpenAI's Codex "Stream must be set to true" (github.com/tinyhumansai/openhuman, issue 5165), and
those on Anthropic's own library, with 400 or 500, of long answers "Streaming is required for operations that may take
longer than 10 minutes" (github.com/anthropics/anthropic-sdk-python, issue 1698)."""
_EFFORT = (
    r"(?:reasoning[ ._]?effort|output_config\.effort|\beffort\b|thinking[ _]level|\bthink value\b|reasoning value)"
)
_NOT_TAKEN = (
    r"(?:(?:un|not |n't )(?:support|known|recogni[sz]ed|expected|permitted|allowed)|invalid|must be|expected|one of"
    r"|should be|unexpected|unrecogni[sz]ed|unknown|extra input)"
)
EFFORT = late(
    rf"{_EFFORT}.{{0,120}}{_NOT_TAKEN}|{_NOT_TAKEN}(?:(?!\b(?:with|when|while|at)\b).){{0,80}}{_EFFORT}"
    rf"|\(param: {_EFFORT}\)|does(?: not|n't) support (?:thinking|reasoning)\b"
    r"|thinking is not (?:configurable|supported)",
    re.IGNORECASE | re.DOTALL,
)
"""That a reasoning effort is not taken, or this one is not: OpenAI "'reasoning_effort' does not support 'minimal' with
this model. Supported values are: 'low', 'medium', and 'high'", Mistral the same in other words
(github.com/mistralai/mistral-vibe, issue 1117), SGLang "Input should be 'low', 'medium' or 'high'"
(github.com/router-for-me/CLIProxyAPI, issue 1572), Gemini "Thinking level MINIMAL is not supported for this model"
(github.com/agentjido/req_llm, issue 971), Anthropic "This model does not support the effort parameter", Ollama "think
value "medium" is not supported for this model", with 500 too, and ""x" does not support thinking" (github.com/ollama/
ollama, issues 12561 and 14212)."""
NO_ROOM = late(
    r"requires more (?:system )?memory|insufficient system resources|not enough (?:resources|memory) to load"
    r"|model [^ ]{0,160} ?failed to load\b|failed to load (?:the )?model"
    r"|(?:unable|failed) to (?:load model|allocate)|error loading model|cudamalloc failed"
    r"|\bout of memory\b|outofmemoryerror",
    re.IGNORECASE,
)
"""That a server of one's own has no room for the model, or cannot load it. It stays so until somebody frees memory or
takes a smaller model. Ollama "model requires more system memory (7.5 GiB) than is available (5.2 GiB)"
(github.com/continuedev/continue, issue 12795), "llama runner process has terminated: CUDA error: out of memory" and
"error loading model: unable to allocate backend buffer" (github.com/ollama/ollama, issues 9782 and 5958), "model failed
to load, this may be due to resource limitations or an internal error"; LM Studio "Model loading was stopped due to
insufficient system resources" (github.com/lmstudio-ai/lmstudio-bug-tracker, issue 1038); vLLM "CUDA out of memory.
Tried to allocate 50.00 MiB" (github.com/vllm-project/vllm, issue 26863); llama.cpp "failed to load model". Ollama's
"model runner has unexpectedly stopped" is none of it: the next request starts another."""
BAD_KEY = late(
    r"(?:incorrect|invalid|wrong|expired|missing|no) api[ _-]?key|api[ _-]?key (?:is |was |has been )?(?:not valid"
    r"|invalid|expired|missing|reported as leaked|revoked|disabled|deactivated|blocked)"
    r"|(?:organi[sz]ation|account|team) (?:has been |is |was )(?:disabled|restricted|deactivated|suspended"
    r"|terminated|banned)|\bvalid api[ _-]?key|unregistered callers|login fail",
    re.IGNORECASE,
)
"""What says that the key is wrong with another status than 401: xAI and Gemini with 400, Gemini without one, or with
one that was found in public, 403. So do accounts that are closed: Anthropic "This organization has been disabled",
Groq "Organization has been restricted", both with 400."""
OF_EVERY_MODEL = late(
    r"at least one message is required|\bmessages?\b\W{0,3}(?:(?:array|list|field|parameter)\W{1,3})?(?:(?:must|may|can"
    r"|should)(?: ?not|n't) be (?:empty|null)|(?:is|are) (?:required|empty|missing|not specified)|: ?field required)"
    r"|\bcontents (?:is|are) not specified|\bmessages\b.{0,20}\bempty (?:array|list)|\[\] is too short.{0,5}messages"
    r"|(?:could not|cannot|failed to) (?:parse|decode) the (?:json|request) body|body (?:is not|contains no) valid json"
    r"|\bmodel\W{1,3}(?:field required|is required)|must provide a model parameter",
    re.IGNORECASE,
)
"""What refusals say of a request that no model takes: one without a message or a model, or that is no JSON. All others
are about this model, or this server: a tool, a parameter, a limit, a form. Another may take it, and a refusal costs
nothing, so the next fallback is tried. Nobody can list how servers say it (github.com/openclaw/openclaw, issues 1879
and 64840)."""
