"""A root in which every text that can come from a log is hostile: escapes, bells, turned text, in every field."""

from __future__ import annotations

from pathlib import Path

import session_log as sl
from commands import ESCAPES
from session_log.facts import set_facts

CONTROL = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b"}
CONTROL |= {*"\u202c\u202d\u202e\u2066\u2067\u2068\u2069"} - {"\n"}
CONTROL -= {"\n", "\t"}
"""What must never reach a terminal that way."""
E = ESCAPES


def hostile(root: Path) -> tuple[str, str]:
    """Make a session whose every text is hostile, with a fork, a trace, a pod and facts; return its segments."""
    with sl.FsStore(root, durability="process") as store:
        with sl.SegmentWriter.create(store, sl.SegmentStartState(system_prompt=E), trace=True) as writer:
            writer.save_invoke(E)
            writer.save_user_input(f"{E}\n# {E}\n* [a]({E})\n```{E}\n{E}\n```")
            writer.save_delta(
                [
                    sl.Reasoning(E, summary=(E,)),
                    sl.ToolCall(E, E, f'{{"{E[1:4]}":"x"}}'),
                    sl.ToolCall("other", E, E),
                    sl.ToolResult(E, E, f"{E}\n" * 20, is_error=True),
                    sl.Message.assistant(f"{E}\n\n| {E} | b |\n|---|---|\n| {E} | {E} |\n"),
                ]
            )
            writer.save_extension(E, {E: [E, {E: E}]})
            writer.save_turn_end()
            writer.save_usage(1, 1, 0, 0, 1, model=E)
            writer.save_run_completed(E, False)
            writer.save_run_errored(E, True)
            writer.trace_lifecycle(E, {"a": E})
            child = writer.fork_at(1)
            session_id, segment_id = writer.session_id, writer.segment_id
        raw = (
            '{"kind":"'
            + E.encode("unicode_escape").decode().replace("\\x", "\\u00")
            + '","ts":1,"text":"\\u001b[2J"}\n'
        )
        store.append(session_id, child, [raw.encode()[:-1]])
        set_facts(store, session_id, title=E, labels=[E], external_key=E)
        active = sl.PodActiveSegmentRef(session_id, segment_id)
        sl.FsPodStore(root).write(sl.PodMetadata(f"pod{E}", active=active))
    with open(root / session_id / f"{child}.jsonl", "ab") as file:
        file.write(b'{"kind":"user_input","ts":1,"segments":"\x1b[2J\x9b\xe2\x80\xae"}\n')
    return segment_id, child
