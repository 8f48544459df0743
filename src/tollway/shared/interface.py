"""The contract of counters: reserve before the work, settle after it, over every budget and limit at once.

An engine decides all claims of a reservation together or none. Amounts are integers: nano-dollars, tokens, requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from tollway.model.money import Money
from tollway.model.terms import Outage

Unit = Literal["nano_usd", "tokens", "requests", "parallel"]


class Claim(Struct, frozen=True, kw_only=True):
    """One ceiling that applies to a request. Built once for a key and reused; the amounts vary by request.

    ``counter`` names the state, ``label`` is what a refusal calls it (``rpm``, ``budget month``), ``subject`` whose
    it is (``key ci``, ``team search``). ``seconds`` > 0 makes a sliding window; ``per`` a calendar period (``day``,
    ``week``, ``month``, ``quarter``, ``year``, ``total`` or ``Nd`` counted from ``anchor``, Unix seconds) in ``zone``,
    beginning on ``first_day`` and in ``first_month``. ``unit`` ``requests`` and ``tokens`` stand for windows and for
    budgets. ``count`` and ``cached`` say which tokens count. ``enforce`` false counts and never refuses. ``alerts`` are
    the amounts, ascending, that a warning is due at. ``raised_until`` (Unix seconds) ends ``raised_by``, which is added
    to ``limit`` until then. ``outage`` is for engines that share counters between processes.
    """

    counter: str
    unit: Unit
    limit: int
    label: str
    subject: str
    seconds: int = 0
    per: str = ""
    anchor: float = 0.0
    strict: bool = False
    zone: str = "UTC"
    first_day: int = 1
    first_month: int = 1
    count: Literal["all", "input", "output"] = "all"
    cached: bool = True
    enforce: bool = True
    alerts: tuple[int, ...] = ()
    clamp: bool = False
    cut: bool = False
    raised_by: int = 0
    raised_until: float = 0.0
    outage: Outage = "lease"


class Amounts(Struct, frozen=True, kw_only=True):
    """What a request is expected to take. Requests and parallel slots always count one.

    ``input_tokens`` is the part of ``tokens`` that is certain; the rest is expected output, and an expectation alone
    never makes a request too large for a limit. ``worst_nano_usd`` is what a strict budget holds.
    """

    tokens: int = 0
    input_tokens: int = 0
    nano_usd: Money = 0
    worst_nano_usd: Money = 0


class Crossing(Struct, frozen=True, kw_only=True):
    """A threshold that a reservation or a settlement crossed, or (``shadow``) a refusal that was only watched."""

    claim: Claim
    at: int
    used: int
    shadow: bool = False


class Standing(Struct, frozen=True, kw_only=True):
    """A claim's state at one moment: ``spent`` settled, ``held`` reserved, ``resets_at`` Unix seconds (None: never)."""

    claim: Claim
    spent: int
    held: int
    resets_at: float | None


class Settlement(Struct, frozen=True, kw_only=True):
    """What one finished request used, as its event in a spool tells it; ``at`` is when it ended, Unix seconds."""

    claims: tuple[Claim, ...]
    at: float
    nano_usd: Money = 0
    tokens: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0


class Hold(Protocol):
    """A reservation. It ends exactly once, by ``settle`` or ``release``; ending it again does nothing."""

    def settle(self, *, nano_usd: Money, tokens: int, input_tokens: int = 0, cached_tokens: int = 0) -> None:
        """Replace what was held by what was used: ``tokens`` in all, of which ``input_tokens`` (cached ones included)
        and ``cached_tokens`` were read from the provider's cache. Never awaits, never fails."""

    def extend(self, *, nano_usd: Money, tokens: int) -> bool:
        """Hold more, for an answer that grows longer than expected. False: a ceiling is reached, and nothing more is
        held; whether the answer is cut then is the caller's to decide. Never awaits."""

    def warnings(self) -> tuple[Crossing, ...]:
        """Thresholds this reservation crossed; empty nearly always."""

    def release(self) -> None:
        """Give back everything: nothing was used. The request itself stays counted in request limits."""

    def ratelimit_headers(self) -> bytes:
        """``x-ratelimit-*`` lines of the tightest request and token limits; empty without limits."""


class Counters(Protocol):
    """Raises BudgetExceeded or RateLimitExceeded, naming the claim, what is spent and held, and the reset time; their
    ``details`` carry ``limit``, ``subject``, ``unit``, ``free`` (what is left of it) and ``clamp``."""

    def reserve_now(self, claims: tuple[Claim, ...], amounts: Amounts) -> Hold | None:
        """The same at once, from what this process has at hand; None where it has to be waited for (``reserve``)."""

    async def reserve(self, claims: tuple[Claim, ...], amounts: Amounts) -> Hold: ...

    async def standing(self, claims: tuple[Claim, ...]) -> list[Standing]: ...

    def seed(self, claim: Claim, spent: int) -> None:
        """Set what a budget had spent in its current period before this process began."""

    def held(self) -> int:
        """How many reservations are open (all claims of one request count once)."""


class PubSub(Protocol):
    """Short notices between processes. A notice may be lost while the bus is away, never silently: whoever subscribed
    is told that it may have missed something and reads the truth where it is kept."""

    async def start(self) -> None:
        """Begin to listen. Never fails because the bus is away: it is tried until it is there."""

    async def close(self) -> None: ...

    async def publish(self, channel: str, payload: bytes) -> bool:
        """To every subscriber of every process, this one included. False: the bus is away and nobody was told."""

    def subscribe(
        self, channel: str, callback: Callable[[bytes], None], missed: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        """Call ``callback`` on the loop with every payload. ``missed`` is called each time listening begins, the first
        time included: what was published before that moment is unknown. Returns what ends the subscription."""


class Lease(Protocol):
    """A lock that is held until its time is over. ``fence`` grows with every acquisition of its name, so a store can
    refuse a writer who was overtaken."""

    name: str
    fence: int

    def held(self) -> bool:
        """Whether it is surely still held, by this process's own clock. Ask before every write."""

    async def renew(self) -> bool:
        """Hold it for its full time again. False: it was lost, or the store is away (then ``held`` tells)."""

    async def release(self) -> None:
        """Let the next one have it at once. Does nothing when it was lost already."""


class Lock(Protocol):
    """One holder at a time among all processes that share the store."""

    async def acquire(self, name: str, seconds: float) -> Lease | None:
        """None: somebody else holds it, or the store is away. Never waits for the holder."""
