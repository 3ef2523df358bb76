"""Every client dialect × every provider dialect × every case of matrix/cases.py, whole and streamed: the same answer as
untranslated, and frames that the vendors' own types take.

`WEIR_MATRIX=client,provider,case` picks cells, with * for any: WEIR_MATRIX='responses,*,tools'.
"""

import concurrent.futures
import dataclasses
import fnmatch
import functools
import json
import os
import unittest

import jsonschema
from house import House
from matrix import cases, schemas, wire
from matrix.chat import Chat
from matrix.gemini import Gemini
from matrix.messages import Messages
from matrix.responses import Responses

CLIENTS = {client.name: client for client in (Chat(), Responses(), Messages(), Gemini())}
PROVIDERS = {provider.name: provider for provider in cases.PROVIDERS}
PICKED = (os.environ.get("WEIR_MATRIX") or "*,*,*").split(",")
THREADS = 8
# A tool may be spelled a little longer in another dialect: whether it is strict.
TOOLS_TOKENS = 8

house = None
keys = {}


def setUpModule():
    global house
    house = House()
    # What Weir keeps for clients that drop it is kept by tenant. The simulator gives every cell the same thoughts: each
    # client's must come back from what this client was answered, the way it was answered.
    for client in CLIENTS:
        for streamed in (False, True):
            keys[client, streamed] = house.new_key(f"{client}, {'streamed' if streamed else 'whole'}")


def tearDownModule():
    wire.close()
    house.stop()


class Cell:
    """One client's question to one provider."""

    def __init__(self, client, provider, case, streamed):
        self.client, self.provider, self.case, self.streamed = CLIENTS[client], PROVIDERS[provider], case, streamed
        found = [e for e in cases.EXCEPTIONS if e.is_of(client, provider, case.name)]
        self.skips = {what for exception in found for what in exception.skips}
        self.warns = [exception.warns for exception in found if exception.warns]

    def __str__(self):
        how = "streamed" if self.streamed else "whole"
        return f"client={self.client.name} provider={self.provider.name} case={self.case.name!r} {how}"

    def is_skipped(self):
        return "all" in self.skips or ("streamed" if self.streamed else "whole") in self.skips

    def body(self):
        name = self.provider.thinker if self.case.effort else cases.MODEL
        self.model = f"{self.provider.name}/{name}"
        return self.client.body(self.case, self.model, self.streamed)

    def ask(self, body):
        path = self.client.path(self.model, self.streamed)
        headers = self.client.headers(keys[self.client.name, self.streamed])
        return wire.post(house.dev["gateway"], path, headers, body)

    def read(self, reply):
        assert reply.status == 200, f"{reply.status}: {reply.body[:600]!r}"
        return self.client.stream(reply, self.case.usage) if self.streamed else self.client.whole(reply)

    def check(self):
        """Asks, and gives what it is compared with the others by: the answer, and the one of the turn after it."""
        case = self.case
        body = self.body()
        reply = self.ask(body)
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
        return answer, self.goes_on(body, answer) if case.results else None

    def refused(self, reply, status):
        allowed = {500: (500, 502, 503), 502: (502,)}.get(status, (status,))
        assert reply.status in allowed, f"{reply.status} instead of {status}: {reply.body[:300]!r}"
        self.client.error(reply)
        if (self.case.sim or {}).get("retry_after"):
            assert reply.headers.get("retry-after") == str(self.case.sim["retry_after"]), reply.headers
        return None, None

    def as_expected(self, reply, answer):
        case = self.case
        said = reply.warnings()
        for warning in self.warns:
            assert warning in said, f"x-weir-warnings is {said}, without {warning}"
        # A level is not a budget: who says one is told that the other was made of it.
        may = ("emulated;", "altered;") if case.effort else ("emulated;",)
        lost = [w for w in said if not w.startswith(may) and w not in self.warns]
        assert not lost, f"x-weir-warnings: {lost}, which matrix/cases.py says nothing of"
        if "finish" not in self.skips:
            assert answer.finish == case.finish, f"finish {answer.finish} instead of {case.finish}"
        if "calls" not in self.skips:
            wrong = f"calls {answer.calls} instead of {case.calls}"
            assert len(answer.calls) == len(case.calls), wrong
            for (name, given), (wanted, arguments) in zip(answer.calls, case.calls):
                assert name == wanted and arguments in (cases.ANY, given), wrong
        assert answer.text or answer.calls or answer.finish == "refusal", "nothing said"
        if case.effort and self.provider.shown and not (case.sim or {}).get("redacted"):
            assert answer.thoughts, "no thoughts shown"
        if case.usage:
            assert answer.usage and answer.usage.input > 0 and answer.usage.output > 0, f"usage {answer.usage}"
        if case.schema:
            jsonschema.validate(json.loads(answer.text), case.schema)

    def goes_on(self, body, answer):
        """The turn after: with the message as it came, and as a client returns it that keeps only what it knows."""
        texts = []
        both = self.case.effort and "stripped" not in self.skips
        for strip in (False, True) if both else (False,):
            how = "stripped of its state" if strip else "as it came"
            try:
                reply = self.ask(self.client.next(body, answer, self.case.results, strip))
                after = self.read(reply)
                lost = [w for w in reply.warnings() if w.startswith("dropped;") and w not in self.warns]
                assert not lost, f"x-weir-warnings: {lost}"
                for result in self.case.results:
                    assert result in after.text, f"the answer does not know the result: {after.text!r}"
            except AssertionError as error:
                raise AssertionError(f"the turn after it, {how}: {error}") from error
            texts.append(after.text)
        return texts


def cells():
    for case in cases.CASES:
        for provider in PROVIDERS:
            for client in CLIENTS:
                names = zip((client, provider, case.name), PICKED)
                if all(fnmatch.fnmatch(name, pattern) for name, pattern in names):
                    both = (Cell(client, provider, case, streamed) for streamed in (False, True))
                    yield from (cell for cell in both if case.only != ("whole" if cell.streamed else "streamed"))


class Matrix(unittest.TestCase):
    """One test a case; its failures name their cell."""

    maxDiff = None

    def of_case(self, case):
        mine = [cell for cell in cells() if cell.case is case and not cell.is_skipped()]
        if not mine:
            self.skipTest("not picked")
        mine, missing = self.there(mine)
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            outcomes = list(pool.map(outcome, mine))
        answers = {(c.client.name, c.provider.name, c.streamed): o for c, o in zip(mine, outcomes) if isinstance(o, tuple)}
        for cell, said in zip(mine, outcomes):
            with self.subTest(str(cell)):
                if isinstance(said, BaseException):
                    raise said
                self.compare(cell, said, answers)
        if missing:
            self.skipTest(f"not there yet: {', '.join(sorted(missing))}")

    def there(self, mine):
        absent = absent_parts()
        named = lambda cell: {cell.client.name, cell.provider.name} & absent
        return [cell for cell in mine if not named(cell)], {name for cell in mine for name in named(cell)}

    def compare(self, cell, said, answers):
        """With the untranslated answer, and with what the others were told of the same answer's cost."""
        answer, after = said
        native = cell.provider.native
        model = (native or "chat", cell.provider.name if native else "simulator", cell.case.only == "streamed")
        untranslated, then = answers.get(model, (None, None))
        if answer is None or untranslated is None or cell.case.breaks:
            return
        if not (cell.case.effort and not native):
            differs = [d for d in answer.same_as(untranslated) if d.split(":")[0] not in cell.skips]
            self.assertEqual(differs, [], f"differs from {model}")
        if after and then:
            self.assertEqual(len(set(after)), 1, "another answer when the state was stripped")
        whole = answers.get((cell.client.name, cell.provider.name, False))
        if not cell.case.usage:
            return
        if cell.streamed and whole and whole[0] and "usage" not in cell.skips:
            self.assertEqual(answer.usage, whole[0].usage, "streamed usage is not the whole answer's")
        if native and "usage" not in cell.skips:
            mine, theirs = answer.usage, untranslated.usage
            if cell.case.tools and abs(mine.input - theirs.input) <= TOOLS_TOKENS:
                mine = dataclasses.replace(mine, input=theirs.input)
            self.assertEqual(mine, theirs, f"usage is not that of {model}")


def outcome(cell):
    try:
        return cell.check()
    except Exception as error:  # noqa: BLE001 - told by the main thread
        return error


@functools.cache
def absent_parts():
    """Clients whose endpoint, and providers whose name this house does not have."""
    absent = set()
    hello = cases.CASES[0]
    for name in CLIENTS:
        cell = Cell(name, "simulator", hello, False)
        if cell.ask(cell.body()).status in (404, 501):
            absent.add(name)
    for name in PROVIDERS:
        cell = Cell("chat", name, hello, False)
        if cell.ask(cell.body()).status in (404, 501):
            absent.add(name)
    if schemas.google is None:
        absent.add("gemini")
    return absent


for _case in cases.CASES:
    _name = "test_" + _case.name.replace(" ", "_")
    setattr(Matrix, _name, lambda self, case=_case: self.of_case(case))


if __name__ == "__main__":
    unittest.main()
