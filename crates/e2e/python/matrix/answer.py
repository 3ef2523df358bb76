"""What an answer says, whatever dialect it was said in."""

import dataclasses


@dataclasses.dataclass
class Usage:
    """As OpenAI counts: what was cached is part of the input, what was thought part of the output."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


@dataclasses.dataclass
class Answer:
    text: str = ""
    # What the client is shown of the model's thoughts.
    thoughts: str = ""
    # Names and arguments, in their order; ids are the dialects' own.
    calls: list = dataclasses.field(default_factory=list)
    # stop, length, tool_calls, or None when it broke off.
    finish: str | None = None
    usage: Usage | None = None
    # In US dollars, as it was told.
    cost: str | None = None
    # What went wrong after the status was sent.
    error: str | None = None
    # The message as the client keeps it for the next turn.
    native: object = None
    ids: list = dataclasses.field(default_factory=list)

    def same_as(self, other):
        """What differs, in words."""
        for name in ("text", "calls", "finish"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                yield f"{name}: {mine!r} instead of {theirs!r}"


def without(value, names):
    """A copy without members of these names, wherever they are: what a client does that keeps what it knows."""
    if isinstance(value, list):
        return [without(item, names) for item in value]
    if isinstance(value, dict):
        return {name: without(inner, names) for name, inner in value.items() if name not in names}
    return value
