"""Every client dialect × every provider dialect × every case of matrix/cases.py, whole and streamed: the same answer as
untranslated, and frames that the vendors' own types take.

`WEIR_MATRIX=client,provider,case` picks cells, with * for any: WEIR_MATRIX='responses,*,tools'.
"""

import concurrent.futures
import fnmatch
import os
import threading
import unittest

from house import House
from matrix import cases, schemas, wire
from matrix.cell import CLIENTS, PROVIDERS, Cell

PICKED = (os.environ.get("WEIR_MATRIX") or "*,*,*").split(",")
THREADS = 8

house = None


class Asked:
    """The house, with a tenant for each client and provider.

    What Weir keeps for clients that drop it is kept by tenant, and the simulator gives every cell the same thoughts and
    calls: each client's must come back from what this client was answered, the way it was answered.
    """

    def __init__(self):
        self.house = House()
        self.gateway = self.house.dev["gateway"]
        self.keys, self.making = {}, threading.Lock()

    def key(self, cell):
        of = (cell.client.name, cell.provider.name, cell.streamed)
        with self.making:
            if of not in self.keys:
                self.keys[of] = self.house.new_key(f"{of[0]} to {of[1]}")
            return self.keys[of]


def setUpModule():
    global house
    house = Asked()


def tearDownModule():
    wire.close()
    house.house.stop()


def is_picked(*names):
    return all(fnmatch.fnmatch(name, pattern) for name, pattern in zip(names, PICKED))


def cells(case):
    for provider in PROVIDERS:
        for client in CLIENTS:
            if is_picked(client, provider, case.name):
                both = (Cell(client, provider, case, streamed) for streamed in (False, True))
                yield from (cell for cell in both if cell.is_asked())


class Matrix(unittest.TestCase):
    """One test a case; its failures name their cell."""

    def of_case(self, case):
        mine = list(cells(case))
        if schemas.google is None:
            # Google's newest client, and its types, want Python 3.11.
            mine = [cell for cell in mine if cell.client.name != "gemini"]
        if not mine:
            self.skipTest("not picked")
        with concurrent.futures.ThreadPoolExecutor(len(mine) if case.silent else THREADS) as pool:
            outcomes = list(pool.map(outcome, mine))
        answers = {(c.client.name, c.provider.name, c.streamed): o for c, o in zip(mine, outcomes) if isinstance(o, tuple)}
        for cell, said in zip(mine, outcomes):
            with self.subTest(str(cell)):
                if isinstance(said, BaseException):
                    raise said
                self.compare(cell, said, answers)

    def compare(self, cell, said, answers):
        """With the untranslated answer, and a streamed one with the whole."""
        answer, texts = said
        if answer is None or cell.case.breaks:
            return
        self.assertLessEqual(len(set(texts or ())), 1, "another answer when the state was stripped")
        native = cell.provider.native
        model = (native or "chat", cell.provider.name if native else "simulator", cell.case.only == "streamed")
        untranslated, _ = answers.get(model, (None, None))
        # A thinking model of another name says other words.
        if untranslated and (native or not cell.case.effort):
            self.assertEqual(list(cell.differences(answer, untranslated)), [], f"differs from {model}")
        whole, _ = answers.get((cell.client.name, cell.provider.name, False), (None, None))
        if cell.streamed and whole and cell.case.usage and "usage" not in cell.skips:
            self.assertEqual(answer.usage, whole.usage, "streamed usage is not the whole answer's")


def outcome(cell):
    try:
        return cell.check(house)
    except Exception as error:  # noqa: BLE001 - told by the main thread
        return error


for _case in cases.CASES:
    _name = "test_" + _case.name.replace(" ", "_")
    setattr(Matrix, _name, lambda self, case=_case: self.of_case(case))


if __name__ == "__main__":
    unittest.main()
