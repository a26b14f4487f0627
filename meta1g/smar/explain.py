"""Decisions with their reasons: the same generators, run with somebody who takes notes; pure.

Rules
    `traced` hands every question on and writes down what came back, so the answer is the server's own.
    Greylisting is asked without leaving a trace.
    What decided is the last access map entry whose rule the verdict repeats; if there is none, the rule
    is built in and the reply says which.
"""
from typing import Any, TypeVar

from meta1g.maps.map import Found, NoMore, NotFound
from meta1g.maps.rhs import AccessRule, parse_access
from meta1g.proto.msg_ar import Action, Resolved, Verdict
from meta1g.smar.ask import (
    ACCESS,
    FOREVER,
    TYPE_NAMES,
    DnsAnswer,
    DnsAsk,
    DnsAsks,
    Fork,
    GreyAnswer,
    GreyAsk,
    MapAsk,
    Note,
    Work,
)

T = TypeVar("T")
Step = dict[str, Any]
ACTIONS = {number: name.lower() for name, number in vars(Action).items() if isinstance(number, int)}


def traced(work: Work[T], steps: list[Step], now: float) -> Work[T]:
    """The same decision; `steps` gets what was asked and answered, `now` is the time that TTLs count from."""
    value: Any = None
    while True:
        try:
            ask = work.send(value)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if isinstance(ask, GreyAsk):
            ask = ask._replace(is_peek=True)
        elif isinstance(ask, Fork):
            parts: list[list[Step]] = [[] for _ in ask.works]
            ask = Fork(tuple(traced(part, found, now) for part, found in zip(ask.works, parts, strict=True)))
            steps.append({"side_by_side": parts})
        value = yield ask
        steps += _steps(ask, value, now)


def _steps(ask: Any, value: Any, now: float) -> list[Step]:
    if isinstance(ask, MapAsk):
        return [_map_step(ask, value)]
    if isinstance(ask, DnsAsks):
        return [_dns_step(one, answer, now) for one, answer in zip(ask.asks, value, strict=True)]
    if isinstance(ask, GreyAsk):
        answer: GreyAnswer = value
        return [{"greylist": text(ask.key.replace(b"\0", b" ")), "passes": answer.may_pass, "state": answer.state,
                 "since": answer.since}]
    return [{"note": ask.text}] if isinstance(ask, Note) else []


def _map_step(ask: MapAsk, result: Any) -> Step:
    if isinstance(result, Found):
        tried = ask.keys[: ask.keys.index(result.key) + 1]
        step: Step = {"map": ask.role, "keys": [text(key) for key in tried], "found": text(result.key),
                      "value": text(result.value)}
        if ask.role == ACCESS and (rule := parse_access(result.value)) is not None:
            step["rule"] = rule_text(rule)
        return step
    return {"map": ask.role, "keys": [text(key) for key in ask.keys], "result": _failure(result)}


def _failure(result: Any) -> str:
    if result is None:
        return "no answer in time"
    return "not found" if isinstance(result, NotFound | NoMore) else f"{type(result).__name__}: {result.reason}"


def _dns_step(ask: DnsAsk, answer: DnsAnswer, now: float) -> Step:
    step: Step = {"dns": f"{ask.name} {TYPE_NAMES.get(ask.rtype, ask.rtype)}", "status": answer.status.value}
    records = [*answer.records, *(f"{mx.preference} {mx.host}" for mx in answer.mx), *map(str, answer.tlsa)]
    if records:
        step["records"] = records
    if answer.reason:
        step["reason"] = answer.reason
    if answer.expires != FOREVER:
        step["ttl"] = max(int(answer.expires - now), 0)
    if answer.is_secure:
        step["secure"] = True
    return step


def text(octets: bytes) -> str:
    """Octets of a map as text for people."""
    return octets.decode("utf-8", "replace")


def rule_text(rule: AccessRule) -> str:
    """An access rule in one line."""
    reply = f" {rule.reply}" if rule.reply.code else ""
    return ("quick:" if rule.quick else "") + ACTIONS[rule.action] + reply


def described(answer: Any) -> Any:
    """An answer as JSON can hold it."""
    if isinstance(answer, Verdict):
        fields = answer._asdict()
        return {**fields, "action": ACTIONS[answer.action]}
    if isinstance(answer, Resolved):
        return [{**target._asdict(), "address": text(target.address), "sender": text(target.sender),
                 "hops": [hop._asdict() for hop in target.hops],
                 "dane": [{**one._asdict(), "records": list(map(str, one.records))} for one in target.dane]}
                for target in answer.targets]
    if isinstance(answer, Found):
        return {"key": text(answer.key), "value": text(answer.value)}
    return {"result": _failure(answer)}


def decided_by(answer: Any, steps: list[Step]) -> str:
    """Which entry or rule decided, in words; empty if nothing did."""
    if not isinstance(answer, Verdict) or answer.action == Action.NONE:
        return ""
    reply = f" {answer.code} {answer.estat} {answer.text}" if answer.code else ""
    wanted = ("quick:" if answer.quick else "") + ACTIONS[answer.action] + reply
    for step in reversed(steps):
        if step.get("rule") == wanted:
            return f"{step['map']}: {step['found']} {step['value']}"
    if answer.code:
        return f"built in: {answer.code} {answer.estat} {answer.text}"
    return "built in"
