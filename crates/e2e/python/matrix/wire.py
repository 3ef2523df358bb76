"""Requests as bytes, and event streams read as strictly as the strictest client reads them."""

import dataclasses
import http.client
import json
import threading
import urllib.parse

PATIENCE_S = 60
_kept = threading.local()
_connections = []


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)

    def warnings(self):
        said = self.headers.get("x-weir-warnings", "")
        return [warning.strip() for warning in said.split(",") if warning.strip()]


@dataclasses.dataclass
class Event:
    """One event of a stream: its name if it has one, and its data."""

    name: str | None
    data: str

    def json(self):
        return json.loads(self.data)


def post(base, path, headers, body):
    """One call over this thread's connection, read to the end: a body that breaks off is an error."""
    netloc = urllib.parse.urlsplit(base).netloc
    if getattr(_kept, "netloc", None) != netloc:
        _kept.netloc, _kept.connection = netloc, http.client.HTTPConnection(netloc, timeout=PATIENCE_S)
        _connections.append(_kept.connection)
    connection = _kept.connection
    try:
        # Compact: what a provider counts of tools and schemas must not depend on who wrote the spaces.
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        connection.request("POST", path, written, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        content = answer.read()
    except BaseException:
        connection.close()
        raise
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)


def kept_alive(reply):
    """Whether something was sent while there was nothing to say: a comment, a ping, for Google's clients an empty line."""
    text = reply.body.decode().replace("\r\n", "\n")
    empty = text.startswith("\n") or "\n\n\n" in text
    return empty or any(block.startswith((":", "event: ping")) for block in text.split("\n\n"))


def close():
    """What all threads kept open."""
    while _connections:
        _connections.pop().close()


def events(reply):
    """The events of a stream; comments and empty lines between them are let pass, and nothing else."""
    kind = reply.headers.get("content-type", "")
    assert kind.split(";")[0] == "text/event-stream", f"no event stream but {kind!r}: {reply.body[:300]!r}"
    # Google's lines end as a mail's do.
    *blocks, rest = reply.body.decode().replace("\r\n", "\n").split("\n\n")
    assert not rest.strip(), f"the stream ends within an event: {rest[:200]!r}"
    found = []
    for block in blocks:
        lines = block.strip("\n").split("\n")
        # Google's clients take no comments: to them an empty line says that somebody is there.
        if all(line.startswith(":") or not line for line in lines):
            continue
        names = [line for line in lines if line.startswith("event:")]
        data = [line for line in lines if line.startswith("data:")]
        assert len(names) <= 1 and len(data) == 1 and len(lines) == len(names) + 1, f"no event as others write it: {block!r}"
        assert lines[-1] == data[0], f"data goes last: {block!r}"
        found.append(Event(names[0][6:].strip() if names else None, data[0][5:].strip()))
    return found
