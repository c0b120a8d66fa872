"""References to blobs: what a line keeps in place of a payload."""

import msgspec


class BlobRef(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True):
    """What an entry keeps in place of a payload: the hash of its content, and its size.

    ``media_type`` (``image/png``) and ``kind`` (any word) say what it is, if whoever put it knew.
    """

    sha256: str
    size_bytes: int
    media_type: str | None = None
    kind: str | None = None


class BlobSpan(msgspec.Struct, frozen=True, gc=False):
    """A piece of a text, ``chars`` code points from ``at`` on, that stands for the text in ``blob``."""

    at: int
    chars: int
    blob: BlobRef
