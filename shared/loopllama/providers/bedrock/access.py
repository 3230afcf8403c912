"""Access to Bedrock's models: what AWS says where an account lacks it, and the commands that get it.

Third parties' models are subscribed to through AWS Marketplace, once for an account, with the rights of whoever calls
first; Anthropic asks for a form beforehand, once for an account or organization. A function's role has no rights in the
Marketplace, on purpose: they are account-wide, and needed once
(https://docs.aws.amazon.com/bedrock/latest/userguide/model-access.html). The wordings are AWS's, as reported in
github.com/anthropics/claude-code 9681, aws-samples/anthropic-on-aws 252, obot-platform/obot 6747 and
kirodotdev/Kiro 11191.
"""

from __future__ import annotations

import re
from shlex import quote

from loopllama.catalog.model import foundation_model
from loopllama.core.patterns import late
from loopllama.providers.bedrock import denials

_NOT_SOLD = frozenset({"amazon", "deepseek", "meta", "mistral", "openai", "qwen"})
"""Vendors whose models are not sold through AWS Marketplace, by the first part of their models' ids."""

_SOLD = late(r"openai\.(?!gpt-oss)")
"""Models of theirs that are sold there all the same: their cards name a product of the Marketplace
(https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-6-sol.html)."""

USE_CASE = (
    '{"companyName": "…", "companyWebsite": "https://…", "intendedUsers": "0", "industryOption": "…", '
    '"otherIndustryOption": "", "useCases": "…"}'
)
"""What Anthropic's form holds; `intendedUsers` is 0 (internal), 1 (external) or 2 (both)."""

_OTHER = "or use one of Amazon's models, which need no subscription (the aliases frontier, balanced, small)"
_FORM = late(r"use.case (details|form)|use-case form", re.IGNORECASE)
_MARKETPLACE = late(
    r"aws.marketplace|model access is denied|access to the model|payment.instrument|accept the EULA|"
    r"not authorized to invoke this model",
    re.IGNORECASE,
)


_NAMED = late(r":(provisioned-model|imported-model|custom-model-deployment|guardrail|guardrail-profile)/")
"""Kinds of ARNs that the parameter BedrockArns takes."""
_ACTION = late(r"not authorized to perform: (bedrock[\w-]*:\w+)")


def needs_agreement(model: str) -> bool:
    """Return whether a foundation model, by its id, is subscribed to through AWS Marketplace."""
    base = foundation_model(model)
    sold = bool(_SOLD.match(base)) or base.partition(".")[0] not in _NOT_SOLD
    return sold and not model.startswith("arn:")


def is_anthropic(model: str) -> bool:
    """Return whether it is a model of Anthropic, who ask for a form."""
    return foundation_model(model).startswith("anthropic.")


def agreement_command(model: str, region: str, profile: str | None = None) -> str:
    """Return the command that subscribes the account to a model: it accepts the vendor's offer and terms."""
    where = _where(region, profile) + f" --model-id {quote(foundation_model(model))}"
    offer = f"aws bedrock list-foundation-model-agreement-offers{where} --query 'offers[0].offerToken' --output text"
    return f'aws bedrock create-foundation-model-agreement{where} --offer-token "$({offer})"'


def use_case_command(region: str, profile: str | None = None) -> str:
    """Return the command that sends Anthropic's form, which it takes from use-case.json (`USE_CASE`)."""
    return f"aws bedrock put-use-case-for-model-access{_where(region, profile)} --form-data fileb://use-case.json"


def _where(region: str, profile: str | None = None) -> str:
    # Ids and regions may come from a table or a workflow that somebody else wrote.
    return f" --region {quote(region)}" + (f" --profile {quote(profile)}" if profile else "")


def explain(code: str, message: str, model: str, region: str) -> str | None:
    """Return what a refusal of Bedrock means and what to do, where it is about the account's access to the model or
    about where the model is; `None` for any other."""
    if _FORM.search(message):
        return (
            "Anthropic's use case form has not been sent for this AWS account (model access). Send it once, with your "
            f"own credentials: {use_case_command(region)} (use-case.json: {USE_CASE}); `loopllama doctor --stack NAME` "
            f"shows what else is missing; {_OTHER}"
        )
    if _MARKETPLACE.search(message):
        if needs_agreement(model):
            return (
                f"this AWS account has no access to {foundation_model(model)} yet: it is subscribed to through AWS "
                "Marketplace, once, by somebody with aws-marketplace:Subscribe and aws-marketplace:ViewSubscriptions. "
                f"`loopllama doctor --stack NAME` shows what is missing; the command is: "
                f"{agreement_command(model, region)} (it acts within 15 minutes); {_OTHER}"
            )
        return (
            f"this AWS account has no access to {foundation_model(model)} in {region}: see `loopllama doctor --stack "
            "NAME`; in GovCloud models are enabled on the Model access page of Bedrock's console"
        )
    if denied := denials.denial(message):
        return denials.remedy(denied, model, region)
    if "on-demand throughput" in message:
        return (
            f"in {region} {foundation_model(model)} is called through an inference profile only: name one of this "
            "region's, such as bedrock:us.…, bedrock:eu.… or bedrock:global.…; list them with: "
            f"aws bedrock list-inference-profiles{_where(region)} --type-equals SYSTEM_DEFINED"
        )
    if "model identifier is invalid" in message or "marked by provider as legacy" in message.lower():
        return (
            f"{model} cannot be used in {region}: name another model, or an alias (frontier, balanced, small), which "
            f"stands for one of {region}'s; what there is: aws bedrock list-inference-profiles{_where(region)}"
        )
    if message.strip().rstrip(".").lower() == "operation not allowed" or "account is not authorized" in message:
        return (
            "AWS has not opened Bedrock for this account, whatever the model: open a case with AWS Support "
            "(account and billing)"
        )
    if code in ("AccessDeniedException", "access_denied"):
        usual = "bedrock:InvokeModel" if code == "AccessDeniedException" else "bedrock-mantle:CreateInference"
        if _NAMED.search(message) or _NAMED.search(model):
            return (
                "the functions may call models of your own, and apply guardrails of other accounts, that the "
                "deployment's parameter BedrockArns names: add the ARN there and deploy again"
            )
        action = _ACTION.search(message)
        return f"the function's role needs {action[1] if action else usual} on it, the account access to the model"
    return None
