"""The ``models:`` section: public names, and the targets, retries, clocks and prices behind each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from tollway.config import reading
from tollway.config.reading import Table
from tollway.config.report import Bad, Report, shown
from tollway.config.settings import ModelSettings, ProviderSettings, TargetSettings
from tollway.config.timeouts import clocks_of
from tollway.config.yaml_marks import Mapping as MappingNode
from tollway.config.yaml_marks import Node, Scalar, Sequence
from tollway.model.clocks import DEFAULT_CLOCKS, Clocks
from tollway.model.deployment import Retry, Strategy
from tollway.model.price import Rates

STRATEGIES: tuple[Strategy, ...] = ("single", "fallback", "loadbalance")
_LATER = ("least_busy", "lowest_latency", "lowest_cost", "conditional", "sticky")
_RETRY_ON = re.compile(r"(4[0-9]{2}|5[0-9]{2}|5xx|connect|timeout)\Z")


class Known:
    """What a target may name: the configured providers. What the catalogue would offer with a key is known
    too, and whether keys are looked for in the environment (``discovered``), to say what is missing."""

    def __init__(
        self, providers: Collection[ProviderSettings], catalog_names: Collection[str], *, discovered: bool
    ) -> None:
        self.clocks: Mapping[str, Clocks] = {provider.name: provider.clocks for provider in providers}
        self.catalog_names = catalog_names
        self.discovered = discovered


def read_models(node: Node, report: Report, known: Known) -> tuple[ModelSettings, ...]:
    """Every model with at least one usable target."""
    table = Table(node, report, "models")
    public = {name for name, _ in table.entries()}
    found = []
    for name, entry in table.entries():
        try:
            reading.checked_name(name)
            model = _Model(name, report, known, public).read(entry)
        except Bad as bad:
            report.add(
                bad.line or table.line_of(name), f"model {shown(name)}: {bad.message}", meant=bad.meant
            )
            continue
        if model is not None:
            found.append(model)
    return tuple(found)


class _Model:
    """One entry of ``models:`` while it is read."""

    def __init__(self, name: str, report: Report, known: Known, public: Collection[str]) -> None:
        self.name = name
        self.report = report
        self.known = known
        self.public = public

    def read(self, entry: Node) -> ModelSettings | None:
        if reading.is_null(entry):
            raise Bad("names no target; write provider/model")
        if not isinstance(entry, MappingNode):
            return self._settings(self._targets(entry, None), None)
        table = Table(entry, self.report, f"model {self.name}")
        if table.has("model"):
            # ``{model: provider/model, price: …}``: the settings of the only target stand beside it.
            if table.has("targets"):
                self.report.add(table.line_of("model"), f"{table.place}: give model or targets, not both")
            only = self._target_of(table, None)
            targets: tuple[TargetSettings, ...] = (only,) if only else ()
        elif (node := table.node("targets")) is not None:
            targets = self._targets(node, table)
            clocks_of(table, None, DEFAULT_CLOCKS)  # read even when no target was usable
        else:
            self.report.add(entry.line, f"{table.place}: names no target; add model: or targets:")
            targets = ()
        strategy = self._strategy(table)
        retry = table.get("retry", _retry, Retry())
        unpriced = table.get("unpriced", reading.choice("allow", "refuse"), None)
        on_unsupported = table.get("on_unsupported", reading.choice("drop", "refuse"), None)
        table.finish()
        if strategy == "single" and len(targets) > 1:
            self.report.add(
                table.line_of("strategy"),
                f"{table.place}: strategy single serves one target and {len(targets)} are given; "
                "use fallback or loadbalance",
            )
        model = self._settings(targets, strategy)
        if model is None:
            return None
        return msgspec.structs.replace(model, retry=retry, unpriced=unpriced, on_unsupported=on_unsupported)

    def _settings(
        self, targets: tuple[TargetSettings, ...], strategy: Strategy | None
    ) -> ModelSettings | None:
        if not targets:
            return None
        usual: Strategy = "fallback" if len(targets) > 1 else "single"
        return ModelSettings(name=self.name, strategy=strategy or usual, targets=targets)

    def _strategy(self, table: Table) -> Strategy | None:
        node = table.node("strategy")
        if isinstance(node, Scalar) and node.text in _LATER:
            self.report.add(
                node.line,
                f"{table.place}: strategy {node.text} is not part of this version; "
                f"available are {', '.join(STRATEGIES)}",
            )
            return None
        return table.get("strategy", reading.choice(*STRATEGIES), None)

    def _targets(self, node: Node, model: Table | None) -> tuple[TargetSettings, ...]:
        items = node.items if isinstance(node, Sequence) else (node,)
        if not items:
            self.report.add(node.line, f"model {self.name}: names no target")
        found: list[TargetSettings] = []
        names: set[str] = set()
        for item in items:
            target = self._target(item, model)
            if target is None:
                continue
            name = target.id or target.model
            if name in names:
                self.report.add(
                    item.line,
                    f"model {self.name}: {shown(name)} is named twice, so it would fall back to itself; "
                    "remove one, or tell them apart by id",
                )
            names.add(name)
            found.append(target)
        if found and all(target.weight == 0 for target in found):
            self.report.add(
                node.line, f"model {self.name}: every target has weight 0, so none would be chosen"
            )
        return tuple(found)

    def _target(self, node: Node, model: Table | None) -> TargetSettings | None:
        if isinstance(node, MappingNode):
            table = Table(node, self.report, f"a target of model {self.name}")
            target = self._target_of(table, model)
            table.finish()
            return target
        try:
            name = self._upstream(node, self.report)
        except Bad as bad:
            self.report.add(bad.line or node.line, f"model {self.name}: {bad.message}", meant=bad.meant)
            return None
        clocks = clocks_of(model, None, self._provider_clocks(name)) if model else None
        return TargetSettings(model=name, clocks=clocks)

    def _target_of(self, table: Table, model: Table | None) -> TargetSettings | None:
        """The target a table describes; the model's own table may be that table."""
        name = table.get("model", self._upstream, None)
        if name is None and not table.has("model"):
            self.report.add(table.line, f"{table.place}: model is missing; write provider/model")
        provider = self._provider_clocks(name or "")
        clocks = clocks_of(model, None, provider) if model else None
        clocks = clocks_of(table, clocks, provider)
        weight = table.get("weight", reading.integer(0, 1_000_000), 1)
        rates = table.get("price", read_rates, None)
        target_id = table.get("id", reading.name, None)
        if name is None:
            return None
        return TargetSettings(model=name, weight=weight, rates=rates, clocks=clocks, id=target_id)

    def _upstream(self, node: Node, _: Report) -> str:
        """``provider/model`` whose provider is there to be asked."""
        written = reading.text_of(node)
        if written == self.name and "/" not in written:
            raise Bad("would fall back to itself; a target is provider/model")
        provider, slash, model = written.partition("/")
        if not slash:
            if written in self.public:
                raise Bad(f"a target is provider/model; {shown(written)} is another entry of models")
            raise Bad(f"a target is provider/model, not {reading.told(node)}")
        if not model or any(char.isspace() or not char.isprintable() for char in written):
            raise Bad(f"a target is provider/model, not {reading.told(node)}")
        if provider in self.known.clocks:
            return written
        if provider in self.known.catalog_names:
            entry = f"add it under providers, for example `{provider}: {{api_key: ${{…}}}}`"
            if self.known.discovered:
                raise Bad(f"provider {provider} has no key in the environment; set its variable, or {entry}")
            raise Bad(f"provider {provider} is in the catalogue but not configured; {entry}")
        raise Bad(
            f"there is no provider {reading.told(node, provider)}; add it under providers, with a type",
            meant=reading.near(node, provider, [*self.known.clocks, *self.known.catalog_names]),
        )

    def _provider_clocks(self, target: str) -> Clocks:
        return self.known.clocks.get(target.partition("/")[0], DEFAULT_CLOCKS)


def _retry(node: Node, report: Report) -> Retry:
    table = Table(node, report, "retry")
    usual = Retry()
    found = Retry(
        attempts=table.get("attempts", reading.integer(1, 10), usual.attempts),
        on=table.get("on", reading.many(_retry_word, "retry.on"), usual.on),
        max_wait=table.get("max_wait", reading.any_duration, usual.max_wait),
    )
    table.finish()
    return found


def _retry_word(node: Node, _: Report) -> str:
    word = reading.text_of(node)
    if not _RETRY_ON.match(word):
        raise Bad(
            f"expected a status such as 429, 5xx, connect or timeout, not {reading.told(node)}",
            meant=reading.near(node, word, ("5xx", "connect", "timeout")),
        )
    return word


def read_rates(node: Node, report: Report) -> Rates:
    """``price: {input, output, cache_read, …}`` in USD per million units to nano-dollars per million,
    exactly."""
    table = Table(node, report, "price")
    given = {name: table.get(name, reading.dollars, None) for name in Rates.__struct_fields__}
    table.finish()
    if not any(table.has(name) for name in given):
        raise Bad("names no rate; write for example {input: 0.15, output: 0.60} in USD per million tokens")
    return Rates(**given)
