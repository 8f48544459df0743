"""Charges in the columns of FOCUS 1.2 (FinOps Open Cost and Usage Specification, https://focus.finops.org), so that
tools for cloud costs read them beside other bills. Which charges, and in which file, is decided elsewhere.

A row is what one day's events of the same dimensions cost. The gateway knows one price, what the provider takes, so the
four costs agree; it has no invoice and no unit price of a sum, and leaves those columns empty. Columns of its own begin
with ``x_``, as the specification asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal

from tollway.admin.tables import Cell, Kind

_NANO = Decimal(10) ** 9

_OWN_UNITS = {
    "x_Requests": "requests",
    "x_Errors": "errors",
    "x_UnpricedRequests": "unpriced_requests",
    "x_InputTokens": "input",
    "x_CacheReadTokens": "cache_read",
    "x_OutputTokens": "output",
    "x_ReasoningTokens": "reasoning",
}
_TOKENS = (
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "output",
    "audio_output",
)

COLUMNS: dict[str, Kind] = {
    "BilledCost": "money",
    "BillingAccountId": "text",
    "BillingAccountName": "text",
    "BillingAccountType": "text",
    "BillingCurrency": "text",
    "BillingPeriodEnd": "time",
    "BillingPeriodStart": "time",
    "ChargeCategory": "text",
    "ChargeClass": "text",
    "ChargeDescription": "text",
    "ChargeFrequency": "text",
    "ChargePeriodEnd": "time",
    "ChargePeriodStart": "time",
    "ConsumedQuantity": "integer",
    "ConsumedUnit": "text",
    "ContractedCost": "money",
    "ContractedUnitPrice": "money",
    "EffectiveCost": "money",
    "InvoiceId": "text",
    "InvoiceIssuerName": "text",
    "ListCost": "money",
    "ListUnitPrice": "money",
    "PricingCategory": "text",
    "PricingCurrency": "text",
    "PricingQuantity": "integer",
    "PricingUnit": "text",
    "ProviderName": "text",
    "PublisherName": "text",
    "RegionId": "text",
    "RegionName": "text",
    "ResourceId": "text",
    "ResourceName": "text",
    "ResourceType": "text",
    "ServiceCategory": "text",
    "ServiceName": "text",
    "ServiceSubcategory": "text",
    "SkuId": "text",
    "SkuMeter": "text",
    "SkuPriceDetails": "text",
    "SkuPriceId": "text",
    "SubAccountId": "text",
    "SubAccountName": "text",
    "SubAccountType": "text",
    "Tags": "text",
    "x_Team": "text",
    "x_Project": "text",
    "x_User": "text",
    "x_Customer": "text",
    "x_Model": "text",
    "x_Endpoint": "text",
    **dict.fromkeys(_OWN_UNITS, "integer"),
}

Names = Mapping[tuple[str, str], str]
"""Names by level and id."""


def charge(row: Mapping[str, str | int | None], names: Names) -> dict[str, Cell]:
    """One roll-up of a UTC day as a charge."""
    day = date.fromisoformat(str(row["day"]))
    month = day.replace(day=1)
    cost = Decimal(_number(row, "cost_nano_usd")) / _NANO
    tokens = sum(_number(row, name) for name in _TOKENS)
    quantity, unit = (tokens, "Tokens") if tokens else (_number(row, "requests"), "Requests")
    organization = _text(row, "organization")
    level = next((name for name in ("project", "team") if _text(row, name)), None)
    sub_account = _text(row, level) if level else None
    provider = _text(row, "provider")
    only_corrections = not row["requests"] and row["corrections"]
    found: dict[str, Cell] = {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "ListCost": cost,
        "BillingAccountId": organization or "default",
        "BillingAccountName": names.get(("organization", organization or ""), organization or "default"),
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _midnight(month),
        "BillingPeriodEnd": _midnight((month + timedelta(days=32)).replace(day=1)),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if only_corrections else None,
        "ChargeDescription": f"{row['endpoint']} of {row['upstream_model']} at {provider}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
        "PublisherName": provider,
        "ResourceId": _text(row, "key_id"),
        "ResourceName": _text(row, "key"),
        "ResourceType": "API Key" if row["key_id"] else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": provider,
        "SkuId": f"{provider}/{row['upstream_model']}",
        "SkuMeter": unit,
        "SkuPriceId": None,
        "SubAccountId": sub_account,
        "SubAccountName": names.get((level or "", sub_account or ""), sub_account or "") or None,
        "SubAccountType": level.capitalize() if level else None,
        "Tags": _tags(row),
        "x_Team": _text(row, "team"),
        "x_Project": _text(row, "project"),
        "x_User": _text(row, "user"),
        "x_Customer": _text(row, "customer"),
        "x_Model": _text(row, "model"),
        "x_Endpoint": _text(row, "endpoint"),
    }
    found.update((name, _number(row, measure)) for name, measure in _OWN_UNITS.items())
    return found


def _tags(row: Mapping[str, str | int | None]) -> str:
    """A JSON object, as the specification has it; our tags have no values, and are true."""
    tags = row["tags"]
    return (
        json.dumps(dict.fromkeys(json.loads(tags), True), ensure_ascii=False)
        if isinstance(tags, str) and tags
        else "{}"
    )


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _text(row: Mapping[str, str | int | None], name: str) -> str | None:
    value = row[name]
    return str(value) if value else None


def _number(row: Mapping[str, str | int | None], name: str) -> int:
    return int(row[name] or 0)
