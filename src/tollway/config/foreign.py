"""Recognises other gateways' configuration files by content, to say plainly that they are not read here."""

from __future__ import annotations

from tollway.config.yaml_marks import Mapping, Node

_PORTKEY_SERVER = {"plugins_enabled", "integrations", "admin_token"}

_LITELLM = (
    "this is a LiteLLM configuration (it has a model_list); importing it is not part of this version. "
    "In tollway.yaml, write each model_name as an entry of models with litellm_params.model as its target, "
    "for example `models: {fast: openai/gpt-5-mini}`, several deployments of one name as "
    "`fast: {strategy: loadbalance, targets: [openai/gpt-5-mini, azure-eu/gpt-5-mini]}`, "
    "and keys and addresses once: `providers: {openai: {api_key: ${OPENAI_API_KEY}}}`"
)
_PORTKEY = (
    "this is a Portkey configuration; importing it is not part of this version. "
    "In tollway.yaml, write each target's provider once, for example "
    "`providers: {openai: {api_key: ${OPENAI_API_KEY}}}`, and its strategy as an entry of models: "
    "`models: {smart: {strategy: fallback, targets: [openai/gpt-5, anthropic/claude-opus-4-5]}}`"
)


def foreign_configuration(root: Node) -> str | None:
    """What to tell someone who brings another gateway's file; None for everything else."""
    if not isinstance(root, Mapping):
        return None
    keys = root.entries.keys()
    if "model_list" in keys:
        return _LITELLM
    if keys & _PORTKEY_SERVER or {"strategy", "targets"} <= keys:
        return _PORTKEY
    return None
