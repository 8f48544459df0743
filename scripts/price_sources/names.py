"""Which provider of the catalogue a source's provider tag means, and how its model ids are written there."""

from __future__ import annotations

import re

# LiteLLM tags that are not the catalogue's name. Another tag is used as it is, dashes as underscores.
LITELLM = {
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "bedrock_converse": "bedrock",
    "text-completion-openai": "openai",
    "text-completion-codestral": "codestral",
    "text-completion-inception": "inception",
    "azure_text": "azure",
    "cohere_chat": "cohere",
    "vertex_ai-language-models": "vertex_ai",
    "vertex_ai-anthropic_models": "vertex_ai",
    "vertex_ai-mistral_models": "vertex_ai",
    "vertex_ai-llama_models": "vertex_ai",
    "vertex_ai-embedding-models": "vertex_ai",
    "vertex_ai-video-models": "vertex_ai",
    "vertex_ai-ai21_models": "vertex_ai",
    "vertex_ai-deepseek_models": "vertex_ai",
    "vertex_ai-qwen_models": "vertex_ai",
    "vertex_ai-openai_models": "vertex_ai",
    "vertex_ai-zai_models": "vertex_ai",
    "vertex_ai-text-models": "vertex_ai",
    "vertex_ai-minimax_models": "vertex_ai",
    "vertex_ai-moonshot_models": "vertex_ai",
}

# First path segments of a LiteLLM id that only repeat the provider. The tag and its name always count.
LITELLM_PREFIXES = {"amazon_nova": ("amazon-nova",), "vertex_ai": ("vertex_ai",), "bedrock": ("bedrock",)}

PORTKEY = {
    "azure-openai": "azure",
    "azure-ai": "azure_ai",
    "google": "gemini",
    "vertex-ai": "vertex_ai",
    "bedrock-mantle": "bedrock_mantle",
    "claude-platform-aws": "claude_platform_aws",
    "fal-ai": "fal_ai",
    "fireworks-ai": "fireworks",
    "jina": "jina_ai",
    "lightning-ai": "lightning_ai",
    "ember-cloud": "ember_cloud",
    "mistral-ai": "mistral",
    "novita-ai": "novita",
    "oracle": "oci",
    "perplexity-ai": "perplexity",
    "reka-ai": "reka",
    "stability-ai": "stability",
    "together-ai": "together",
    "workers-ai": "cloudflare",
    "x-ai": "xai",
    "z-ai": "zai",
    "zhipu": "bigmodel",
}
PORTKEY_SKIPPED = {"palm"}  # the service ended in 2024

GENAI = {
    "aws": "bedrock",
    "google": "gemini",
    "x-ai": "xai",
    "moonshotai": "moonshot",
    "voyageai": "voyage",
    "github-copilot": "github_copilot",
    "zhipuai": "bigmodel",
}
GENAI_SKIPPED = {"openai-decisions"}  # a second price list of OpenAI for one endpoint

# Providers whose own list is kept under another id: consulted for names the book has, but it adds none.
GENAI_WITNESS = {"vertex_ai": "google"}

# Bedrock and Vertex AI ids carry regions and versions that LiteLLM lists one by one. DeepSeek's rates depend
# on the hour, and genai-prices keeps the hours of an older price list for its aliases.
LITELLM_FIRST = {"bedrock", "vertex_ai", "deepseek"}

# A snapshot's date or a revision at the end of a model id.
DATED = re.compile(r"[-@](20\d{2}-?\d{2}-?\d{2}|\d{4})$")
# Size classes that LiteLLM lists beside models; no request names them.
BUCKET = re.compile(r"^(together-ai-|fireworks-ai-)")
# Provisioned throughput is paid by the hour whether used or not: no request has this price.
COMMITMENT = re.compile(r"month-commitment")
# A router's own fee beside the price of the model it picks, which the id does not tell.
ROUTER = re.compile(r"^model[-_]router$")


def litellm(tag: str, model: str) -> tuple[str, str]:
    """Provider and model id of a LiteLLM entry: a prefix that repeats the provider goes."""
    provider = LITELLM.get(tag, tag.replace("-", "_"))
    first, _, rest = model.partition("/")
    if rest and first in {tag, provider, *LITELLM_PREFIXES.get(provider, ())}:
        model = rest
    return provider, model


def portkey(tag: str, model: str) -> tuple[str, str]:
    """Provider and model id of a Portkey entry. Its Fireworks ids lack the account that requests carry."""
    provider = PORTKEY.get(tag, tag.replace("-", "_"))
    if provider == "fireworks" and "/" not in model:
        model = f"accounts/fireworks/models/{model}"
    if provider == "vertex_ai":
        model = model.removeprefix("anthropic.")
    return provider, model


def genai(provider_id: str, model: str) -> tuple[str, str]:
    """Provider and model id of a genai-prices entry. Hugging Face's router takes ``model:provider``."""
    if provider_id.startswith("huggingface_"):
        return "huggingface", f"{model}:{provider_id.removeprefix('huggingface_')}"
    return GENAI.get(provider_id, provider_id.replace("-", "_")), model
