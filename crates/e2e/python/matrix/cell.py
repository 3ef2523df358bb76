"""One client's question to one provider, asked and judged."""

import json

import jsonschema

from . import cases, wire
from .chat import Chat
from .gemini import Gemini
from .messages import Messages
from .responses import Responses

CLIENTS = {client.name: client for client in (Chat(), Responses(), Messages(), Gemini())}
PROVIDERS = {provider.name: provider for provider in cases.PROVIDERS}
# A tool may be spelled a little longer in another dialect: whether it is strict.
TOOLS_TOKENS = 8


class Cell:
    def __init__(self, client, provider, case, streamed):
        self.client, self.provider, self.case, self.streamed = CLIENTS[client], PROVIDERS[provider], case, streamed
        found = [e for e in cases.EXCEPTIONS if e.is_of(client, provider, case.name)]
        self.skips = {what for exception in found for what in exception.skips}
        self.warns = [cases.warning(client, exception.warns) for exception in found if exception.warns]
        model = provider_model(self.provider, case)
        self.model = f"{provider}/{model}"

    def __str__(self):
        how = "streamed" if self.streamed else "whole"
        return f"client={self.client.name} provider={self.provider.name} case={self.case.name!r} {how}"

    def is_asked(self):
        how = "streamed" if self.streamed else "whole"
        return self.case.only in ("", how) and not {"all", how} & self.skips

    def body(self):
        return self.client.body(self.case, self.model, self.streamed)

    def ask(self, house, body, **headers):
        path = self.client.path(self.model, self.streamed)
        return wire.post(house.gateway, path, {**self.client.headers(house.key(self)), **headers}, body)

    def read(self, reply):
        assert reply.status == 200, f"{reply.status}: {reply.body[:600]!r}"
        answer = self.client.stream(reply, self.case.usage) if self.streamed else self.client.whole(reply)
        answer.cost = answer.cost or reply.headers.get("x-weir-cost-usd")
        return answer

    def check(self, house):
        """Asks, and gives what it is compared with the others by: the answer, and the texts of the turn after it."""
        case = self.case
        body = self.body()
        reply = self.ask(house, body)
        if case.status != 200:
            return self.refused(reply, case.status)
        if case.breaks and not self.streamed:
            return self.refused(reply, case.breaks)
        answer = self.read(reply)
        if case.breaks:
            assert answer.error, f"no error, though it broke off: {answer}"
            assert answer.text, "nothing of what came before"
            return answer, None
        assert not answer.error, answer.error
        self.as_expected(reply, answer)
        if any(warning.startswith("dropped;") for warning in self.warns):
            self.strictly(house, body)
        return answer, self.goes_on(house, body, answer) if case.results else None

    def refused(self, reply, status):
        allowed = {500: (500, 502, 503), 502: (502,)}.get(status, (status,))
        assert reply.status in allowed, f"{reply.status} instead of {status}: {reply.body[:300]!r}"
        self.client.error(reply)
        if (self.case.sim or {}).get("retry_after"):
            assert reply.headers.get("retry-after") == str(self.case.sim["retry_after"]), reply.headers
        return None, None

    def strictly(self, house, body):
        """Who would rather be refused than lose something is, and told what."""
        reply = self.ask(house, body, **{"x-weir-strict": "true"})
        assert reply.status == 400, f"{reply.status}, though strict: {reply.body[:300]!r}"
        said = self.client.error(reply)
        for warning in self.warns:
            assert warning in said, f"refused with {said!r}, which does not name {warning}"

    def as_expected(self, reply, answer):
        case = self.case
        self.warned(reply)
        if "finish" not in self.skips:
            assert answer.finish == case.finish, f"finish {answer.finish} instead of {case.finish}"
        if "calls" not in self.skips:
            self.called(answer, case.calls)
        assert answer.text or answer.calls or answer.finish == "refusal", "nothing said"
        if case.effort and self.provider.shown and not (case.sim or {}).get("redacted"):
            assert answer.thoughts, "no thoughts shown"
        if case.usage:
            assert answer.usage and answer.usage.input > 0 and answer.usage.output > 0, f"usage {answer.usage}"
        if case.schema:
            jsonschema.validate(json.loads(answer.text), case.schema)
        if case.json and "text" not in self.skips:
            assert isinstance(json.loads(answer.text), dict), answer.text
        if case.silent:
            assert wire.kept_alive(reply), "12 s of silence, and nothing that kept the connection"
        if not self.streamed and not case.effort:
            assert answer.cost and float(answer.cost) > 0, f"x-weir-cost-usd {answer.cost}"

    def warned(self, reply):
        said = reply.warnings()
        for warning in self.warns:
            assert warning in said, f"x-weir-warnings is {said}, without {warning}"
        # A level is not a budget: who says one is told that the other was made of it.
        may = ("emulated;", "altered;") if self.case.effort else ("emulated;",)
        if self.case.json and "text" in self.skips:
            may += ("invalid;",)
        lost = [w for w in said if not w.startswith(may) and w not in self.warns]
        assert not lost, f"x-weir-warnings: {lost}, which matrix/cases.py says nothing of"

    def called(self, answer, wanted):
        wrong = f"calls {answer.calls} instead of {wanted}"
        assert len(answer.calls) == len(wanted), wrong
        for (name, given), (asked, arguments) in zip(answer.calls, wanted):
            assert name == asked and arguments in (cases.ANY, given), wrong

    def goes_on(self, house, body, answer):
        """Two turns more: with the messages as they came, and as a client returns them that keeps what it knows."""
        texts = []
        both = self.case.effort and "stripped" not in self.skips
        for strip in (False, True) if both else (False,):
            try:
                texts.append(self.turns(house, body, answer, strip))
            except AssertionError as error:
                how = "stripped of its state" if strip else "as it came"
                raise AssertionError(f"the turn after it, {how}: {error}") from error
        return texts

    def turns(self, house, body, answer, strip):
        body = self.client.next(body, answer, self.case.results, strip)
        after = self.turn(house, body)
        for result in self.case.results:
            assert result in after.text, f"the answer does not know the result: {after.text!r}"
        again = self.turn(house, self.client.more(body, after, "Now use get_weather again.", strip))
        if "calls" not in self.skips:
            self.called(again, (("get_weather", cases.ANY),))
        return after.text

    def turn(self, house, body):
        reply = self.ask(house, body)
        answer = self.read(reply)
        lost = [w for w in reply.warnings() if w.startswith("dropped;") and w not in self.warns]
        assert not lost, f"x-weir-warnings: {lost}"
        return answer

    def differences(self, answer, untranslated):
        """From the answer that a client of the provider's own dialect gets, in words."""
        yield from (d for d in answer.same_as(untranslated) if d.split(":")[0] not in self.skips)
        mine, theirs = answer.usage, untranslated.usage
        if "usage" in self.skips or not self.case.usage or not self.provider.native:
            return
        if mine == theirs:
            if answer.cost and untranslated.cost and answer.cost != untranslated.cost:
                yield f"cost: {answer.cost} instead of {untranslated.cost}"
        elif not self.case.tools or abs(mine.input - theirs.input) > TOOLS_TOKENS:
            yield f"usage: {mine} instead of {theirs}"


def provider_model(provider, case):
    return provider.thinker if case.effort else cases.MODEL
