"""Which models a realtime session may name: the one it was opened for, and transcribers its key is allowed.

Every name a client writes into a session goes through here and leaves as the provider knows it.
"""

from __future__ import annotations

from msgspec import Raw

from tollway.errors import BadRequest, ModelNotAllowed, ModelNotFound, UnpricedModel
from tollway.pipeline.grant import Grant
from tollway.pipeline.snapshot import ServedRoute, Snapshot, Target
from tollway.wire import body
from tollway.wire.formats.openai_realtime import transcription_model


class SessionModels:
    """``transcribes`` says that the session has no other model than a transcriber: the one it was opened for."""

    def __init__(
        self, grant: Grant, snapshot: Snapshot, route: ServedRoute, target: Target, *, transcribes: bool
    ) -> None:
        self._grant = grant
        self._snapshot = snapshot
        self._route = route
        self._transcribes = transcribes
        self.target = target
        self.transcriber = target
        """What transcriptions are billed as."""
        self._transcribers: dict[str, Target] = {}

    def rewrite(self, session: body.Fields, where: str = "session") -> body.Fields:
        """The session with every model's name as the provider has it. Raises BadRequest, ModelNotAllowed,
        ModelNotFound or UnpricedModel."""
        told = dict(session)
        name = body.text(told, "model")
        if name is not None:
            told["model"] = body.raw(self._main(name, f"{where}.model"))
        self._within(told, ("input_audio_transcription",), where)
        self._within(told, ("audio", "input", "transcription"), where)
        return told

    def learn(self, session: Raw) -> None:
        """Follow what the provider says of the session: its transcriber is what will be billed."""
        name = transcription_model(session)
        if name is None or name == self.transcriber.deployment.upstream_model:
            return
        known = self._transcribers.get(name)
        if known is None:
            try:
                full = f"{self.target.provider.name}/{name}"
                known = self._snapshot.route(full, self._grant).targets[0]
            except ModelNotFound:
                return
        self.transcriber = known

    def _within(self, fields: body.Fields, path: tuple[str, ...], where: str) -> None:
        inner = body.mapping(fields, path[0])
        if inner is None:
            return
        where = f"{where}.{path[0]}"
        if len(path) > 1:
            self._within(inner, path[1:], where)
        else:
            name = body.text(inner, "model")
            if name is not None:
                inner["model"] = body.raw(self._transcription(name, f"{where}.model"))
        fields[path[0]] = Raw(body.encode(inner))

    def _main(self, name: str, param: str) -> str:
        deployment = self.target.deployment
        if name not in (self._route.name, deployment.id, deployment.upstream_model):
            raise ModelNotAllowed(
                f"This session was opened for model {self._route.name!r}. Open another one for {name[:200]!r}.",
                param=param,
            )
        return deployment.upstream_model

    def _transcription(self, name: str, param: str) -> str:
        if self._transcribes:
            return self._main(name, param)
        provider = self.target.provider.name
        full = f"{provider}/{name}"
        if name in self._snapshot.named() or name.startswith(f"{provider}/"):
            route = self._grant.route(name, self._snapshot)
        elif self._grant.allows(name):
            route = self._snapshot.route(full, self._grant)
            if not self._grant.permits(route):
                raise ModelNotAllowed(f"This key may not use model {name[:200]!r}.", param=param)
        else:
            route = self._grant.route(full, self._snapshot)
        found = next((each for each in route.targets if each.provider.name == provider), None)
        if found is None:
            raise BadRequest(
                f"Model {name[:200]!r} is not served by {provider}, which serves this session.", param=param
            )
        if found.deployment.price is None and route.route.unpriced == "refuse":
            raise UnpricedModel(
                f"Model {name[:200]!r} has no known price and unpriced requests are refused here.",
                param=param,
            )
        upstream_model = found.deployment.upstream_model
        if len(self._transcribers) < 64:
            self._transcribers[upstream_model] = found
        return upstream_model
