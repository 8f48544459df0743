"""From a key's budgets and limits to the claims a request reserves."""

from __future__ import annotations

from tollway.model.key import VirtualKey
from tollway.shared.interface import Claim


def claims_of(key: VirtualKey) -> tuple[Claim, ...]:
    """Every ceiling a key has. Cheap ones first, so that a refusal touches little."""
    prefix = f"key:{key.id}:"
    subject = f"key {key.name}"
    limits = key.limits
    claims = []
    windows = (("rpm", limits.rpm, "requests", 60), ("rpd", limits.rpd, "requests", 86400),
               ("tpm", limits.tpm, "tokens", 60), ("tpd", limits.tpd, "tokens", 86400))  # fmt: skip
    if limits.parallel is not None:
        claims.append(
            Claim(
                counter=prefix + "parallel",
                unit="parallel",
                limit=limits.parallel,
                label="parallel",
                subject=subject,
            )
        )
    for label, limit, unit, seconds in windows:
        if limit is not None:
            claims.append(
                Claim(
                    counter=prefix + label,
                    unit="requests" if unit == "requests" else "tokens",
                    limit=limit,
                    label=label,
                    subject=subject,
                    seconds=seconds,
                )
            )
    for budget in key.budgets:
        claims.append(
            Claim(
                counter=f"{prefix}usd:{budget.per}",
                unit="nano_usd",
                limit=budget.limit,
                label=f"budget per {budget.per}" if budget.per != "total" else "total budget",
                subject=subject,
                per=budget.per,
                anchor=key.created_at,
                strict=budget.strict,
            )
        )
    return tuple(claims)
