"""The tidings: what the residents of a root say they begin, what was done, and what was refused."""

from dataclasses import dataclass, field

import msgspec

from proof.filed import text_of
from proof.ledger import Failed

Ids = tuple[str, str]
LINES = frozenset({"say", "blob", "checkpoint"})
"""The deeds that append a line with a token of its own."""
UNKNOWN = "AppendUnknown"
PAYLOADS = 40


class Began(msgspec.Struct, frozen=True, tag=True):
    """A deed begins: ``text`` is its token, title, or external key; ``size`` that of the text; ``keyed`` if by idem."""

    number: int
    deed: str
    ids: Ids = ("", "")
    text: str = ""
    size: int = 0
    keyed: bool = False


class Done(msgspec.Struct, frozen=True, tag=True):
    """The deed returned: what it did is in this segment, the line ``at`` (from 1) being the last of it."""

    number: int
    ids: Ids
    at: int = 0


class Declined(msgspec.Struct, frozen=True, tag=True):
    """The deed raised."""

    number: int
    error: str
    said: str


class Saw(msgspec.Struct, frozen=True, tag=True):
    """An event of the feed reached the watcher; ``ready``: it looks from now on."""

    kind: str
    ids: tuple[str, str | None]
    title: str | None = None


Tidings = Began | Done | Declined | Saw | Failed


@dataclass(eq=False)
class Deed:
    """One deed of one resident, and how it ended, if it did (``outcome`` None: its resident was killed first)."""

    resident: str
    began: Began
    round: int
    outcome: Done | Declined | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was acknowledged."""
        return isinstance(self.outcome, Done)

    @property
    def in_doubt(self) -> bool:
        """Whether it may have been done."""
        return self.outcome is None or (isinstance(self.outcome, Declined) and self.outcome.error == UNKNOWN)

    def done(self) -> Done:
        """Return what was acknowledged."""
        assert isinstance(self.outcome, Done)
        return self.outcome

    def __str__(self) -> str:
        return f"{self.resident}: {self.began} → {self.outcome}"


@dataclass
class Told:
    """Everything that was said about one root."""

    deeds: list[Deed] = field(default_factory=list)
    saw: list[tuple[int, Saw]] = field(default_factory=list)
    _open: dict[tuple[str, int], Deed] = field(default_factory=dict)

    def hear(self, resident: str, said: object, number: int) -> None:
        """Write down what a resident said in round ``number``."""
        match said:
            case Began():
                deed = Deed(resident, said, number)
                self._open[resident, said.number] = deed
                self.deeds.append(deed)
            case Done() | Declined():
                self._open.pop((resident, said.number)).outcome = said
            case Saw():
                self.saw.append((number, said))

    def of(self, *kinds: str) -> list[Deed]:
        """Return the deeds of these kinds."""
        return [deed for deed in self.deeds if deed.began.deed in kinds]

    def done(self, *kinds: str) -> list[Deed]:
        """Return those that were acknowledged."""
        return [deed for deed in self.of(*kinds) if deed.is_done]


def payload_of(token: str) -> bytes:
    """Return the payload that goes with a token: of a round, one of those that are there before, unreferred to."""
    return payloads_of(token.partition("author")[0])[sum(token.encode()) % PAYLOADS]


def payloads_of(a_round: str) -> list[bytes]:
    """Return the payloads that are put, again and again, in a round."""
    return [text_of(f"payload-{a_round}-{number}", 900).encode() for number in range(PAYLOADS)]


def state_of(token: str) -> dict[str, str]:
    """Return the state of the checkpoint of a token; a large part of it is shared with others."""
    return {"token": token, "large": payload_of(token).decode()}
