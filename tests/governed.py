"""Two organizations behind a real admin API: every role of the gateway, a token for each, and objects that are the
role's own, of its team, of its organization and of strangers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import msgspec
import uvicorn

from tollway.admin.context import Context
from tollway.admin.times import iso
from tollway.config.settings import Settings
from tollway.errors import InvalidKey
from tollway.http.api import create_api
from tollway.model.deployment import Route
from tollway.model.event import UsageEvent
from tollway.model.key import ADMIN, Principal, VirtualKey
from tollway.model.secret import Secret
from tollway.model.tenant import AccessGroup, Membership, Tenant
from tollway.model.terms import Budget, Terms
from tollway.model.usage import Usage
from tollway.shared.claims import claims_of
from tollway.shared.memory import MemoryCounters
from tollway.storage.engine import Database
from tollway.storage.repositories.adjustments import Adjustments
from tollway.storage.repositories.admin_tokens import AdminToken, AdminTokens
from tollway.storage.repositories.events import Events
from tollway.storage.repositories.keys import Keys
from tollway.storage.repositories.ledger import Ledger, read_entry
from tollway.storage.repositories.tenants import Tenants
from tollway.storage.segments import BEGINNING, Position

ADMIN_KEY = "tw-admin-0123456789abcdef"
BUDGET = Terms(budgets=(Budget(limit=5_000_000_000, per="month"),))
SETTINGS = Settings(admin_key=Secret(ADMIN_KEY))

ROLES = ("owner", "admin", "auditor", "org_admin", "team_admin", "member", "viewer")
_GATEWAY = {"owner": "owner", "admin": "admin", "auditor": "auditor"}
_IN_TEAM = {"team_admin": "admin", "member": "member", "viewer": "viewer"}


class InUse:
    def __init__(self, keys: Iterable[VirtualKey]) -> None:
        self._keys = tuple(keys)
        self.generation = 1

    def keys(self) -> Iterable[VirtualKey]:
        return self._keys

    def routes(self) -> Iterable[Route]:
        return ()


class Governed:
    """``ask(role, …)`` sends a request with that role's token; ``admin`` is the admin key. Ids are their own names:
    ``a`` and ``b`` are the organizations, ``a.one``, ``a.two`` and ``b.one`` the teams."""

    def __init__(self, directory: Path) -> None:
        self.database = Database.open("sqlite:///tollway.db", directory)
        self.keys = Keys(self.database)
        self.tenants = Tenants(self.database)
        self.tokens = AdminTokens(self.database)
        self.snapshot = InUse(())
        self.usual_terms = BUDGET
        self.client: httpx2.AsyncClient
        self.context = Context(
            keys=self.keys,
            events=Events(self.database),
            tenants=self.tenants,
            adjustments=Adjustments(self.database),
            tokens=self.tokens,
            snapshot=lambda: self.snapshot,
            counters=MemoryCounters(time.time),
            claims=claims_of,
            changed=self.changed,
            reload=self.reload,
            settings=lambda: SETTINGS,
            flush=self.flush,
            status=dict,
        )
        self.app = create_api(self.context, self.authorize)

    def authorize(self, headers: list[tuple[bytes, bytes]]) -> Principal:
        sent = dict(headers).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if sent == ADMIN_KEY:
            return ADMIN
        for key in self.snapshot.keys():  # noqa: SIM118
            if hashlib.sha256(sent.encode()).hexdigest() == key.hash:
                return Principal(kind="key", key=key)
        raise InvalidKey("this key is not known")

    async def changed(self) -> None:
        self.snapshot = InUse(await self.keys.all())

    async def reload(self) -> list[str]:
        return []

    async def flush(self) -> None:
        pass

    async def settle(self) -> None:
        """Everybody and everything."""
        put = self.tenants.add
        for org in ("a", "b"):
            await put(Tenant(level="organization", id=org, name=f"org {org}", terms=BUDGET))
            for team in ("one", "two"):
                await put(
                    Tenant(
                        level="team",
                        id=f"{org}.{team}",
                        name=team,
                        organization=org,
                        terms=BUDGET,
                        members=BUDGET,
                    )
                )
                await put(
                    Tenant(
                        level="project", id=f"{org}.{team}-p", name=f"{team} project", organization=org,
                        team=f"{org}.{team}", terms=BUDGET,
                    )
                )  # fmt: skip
                await self._user(f"{org}.mate-{team}", org, None, ("team", f"{org}.{team}", "member"))
            await put(
                Tenant(
                    level="customer", id=f"{org}.end user", name="end user", organization=org, terms=BUDGET
                )
            )
        await put(Tenant(level="tag", id="batch", name="batch", terms=BUDGET))
        await self.tenants.put_group(AccessGroup(id="cheap", name="cheap", models=("fast",)))
        for role in ROLES:
            if role in _GATEWAY:
                await self._user(role, None, _GATEWAY[role], None)
            elif role == "org_admin":
                await self._user(role, "a", None, ("organization", "a", "admin"))
            else:
                await self._user(role, "a", None, ("team", "a.one", _IN_TEAM[role]))
            await self.tokens.add(
                AdminToken(
                    id=f"tok_{role}", user=role, name=role, hash=_hash(token(role)), hint="…",
                    created_at=time.time(), expires_at=time.time() + 3600,
                )
            )  # fmt: skip
            await self.key(f"own-{role}", "a", "a.one", role)
        await self.key("mate-one", "a", "a.one", "a.mate-one")
        await self.key("mate-two", "a", "a.two", "a.mate-two")
        await self.key("stranger", "b", "b.one", "b.mate-one")
        await self.changed()

    async def _user(
        self, id: str, home: str | None, role: str | None, place: tuple[str, str, str] | None
    ) -> None:
        members = ()
        if place is not None:
            members = (Membership(level=place[0], tenant=place[1], user=id, role=place[2], terms=BUDGET),)
        user = Tenant(level="user", id=id, name=f"user {id}", organization=home, role=role, terms=BUDGET)
        await self.tenants.add(user, members)

    async def key(
        self, id: str, organization: str | None, team: str | None, user: str | None, **more: object
    ) -> None:
        key = VirtualKey(
            id=f"key_{id}", name=f"name {id}", hash=_hash(secret(id)), hint="…",
            organization=organization, created_by=user, team=team, user=user,
            budgets=BUDGET.budgets, created_at=time.time(), **more,
        )  # fmt: skip
        await self.keys.add(key)

    async def spend(self) -> None:
        """One event of each key."""
        events = []
        for number, key in enumerate(await self.keys.all()):
            events.append(
                UsageEvent(
                    id=f"ue_{key.id}_1", request_id=key.id, time=iso(time.time()), key=key.name, key_id=key.id,
                    organization=key.organization, team=key.team, user=key.user, endpoint="chat.completions",
                    model="fast", provider="p", upstream_model="m", deployment="d", status=200, outcome="ok",
                    usage=Usage(input=1), cost_nano_usd=10**number % 1_000_000_007, raw_usage=msgspec.Raw(b"{}"),
                )
            )  # fmt: skip
        entries = [read_entry(msgspec.json.encode(event)) for event in events]
        await Ledger(self.database).append(entries, "spool", BEGINNING, Position(1, len(entries)))

    async def ask(
        self, who: str, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> httpx2.Response:
        credential = (
            ADMIN_KEY if who == "admin key" else secret(who[4:]) if who.startswith("key ") else token(who)
        )
        headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
        content = json.dumps(body).encode() if body is not None else b""
        return await self.client.request(
            method, "/api" + path, content=content, headers=headers, params=query
        )

    async def must(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """As the administrator, and it works."""
        answer = await self.ask("admin key", method, path, body)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json()


def token(role: str) -> str:
    return f"sk-tw-user-{role}-0123456789abcdef"


def secret(id: str) -> str:
    return f"sk-tw-{id}-0123456789abcdef"


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@asynccontextmanager
async def governed(directory: Path) -> AsyncIterator[Governed]:
    made = Governed(directory)
    await made.database.migrate()
    await made.settle()
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="critical", lifespan="off", loop="none"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=30) as client:
        made.client = client
        yield made
    server.should_exit = True
    await serving
    await made.database.close()
