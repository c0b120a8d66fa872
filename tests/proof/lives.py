"""Lives: many threads, forked children, several stores; what was acknowledged is there, once and in order."""

import functools
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import session_log as sl
from proof.lab import Lab, Tried
from proof.offspring import Child
from proof.scene import SEGMENT_ID, SESSION_ID, Files, Scene, must, recorded

THREADS = 64
WAIT_S = 120.0
MOST = 600
Acknowledged = list[str]


def lives(lab: Lab) -> list[Tried]:
    """Try every way of living together."""
    with lab.folder("lives") as root:
        files = recorded(root / "recorded")
        return [
            _rounds(lab, root, files, "threads", _threads, lab.amount(40, 2), f"{THREADS} threads on one writer"),
            _rounds(
                lab, root, files, "stores", _stores, lab.amount(60, 3), "three stores of one process on one segment"
            ),
            _rounds(lab, root, files, "children", _children, lab.amount(80, 3), "os.fork while threads write"),
        ]


def _rounds(
    lab: Lab, root: Path, files: Files, name: str, one: Callable[[Scene, random.Random], int], rounds: int, what: str
) -> Tried:
    chance = lab.random(f"lives/{name}")
    broken, entries = [], 0
    for number in range(rounds):
        lab.report(f"{what}: round {number + 1} of {rounds}")
        scene = Scene(root / f"{name}{number}", files)
        try:
            entries += one(scene, chance)
        except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
            broken.append(f"round {number + 1}: {type(exc).__name__}: {exc}")
        finally:
            scene.close()
    promise = f"{what}: each acknowledged entry is on file once, in the order of its thread; all restores"
    return Tried(promise=promise, unit="rounds", tried=rounds, broken=tuple(broken), figures=f"{entries:,} entries")


# ── what was said, and what is there ───────────────────────────────────────────────────────────────────────────────


class Voice:
    """Whoever writes: appends entries ``name.0``, ``name.1``, … and notes which were acknowledged."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.said: Acknowledged = []
        self._chance = random.Random(seed)

    def speak(self, writer: sl.SegmentWriter, times: int) -> None:
        """Append one by one, in lists and in batches; look at the state in between."""
        for _ in range(times):
            texts = [f"{self.name}.{len(self.said) + ahead}" for ahead in range(self._chance.choice((1, 1, 2, 3)))]
            if len(texts) == 1:
                writer.save_extension("voice", texts[0])
            elif len(texts) == 2:
                writer.append_entries([sl.Extension(ts=sl.now_ms(), domain="voice", payload=text) for text in texts])
            else:
                with writer.batch():
                    for text in texts:
                        writer.save_extension("voice", text)
            self.said += texts
            if self._chance.random() < 0.1:
                payloads = [record.payload for record in writer.state.extensions]
                must(self.said[-1] in payloads, f"{self.said[-1]} was acknowledged, and is not in the state")

    def call(self, store: sl.Store, times: int) -> None:
        """The same with the free function, in a store."""
        for _ in range(times):
            text = f"{self.name}.{len(self.said)}"
            sl.save_extension(store, SESSION_ID, SEGMENT_ID, "voice", text)
            self.said.append(text)


def _each_once(scene: Scene, voices: Sequence[Voice]) -> int:
    """Make sure that what each voice said is on file once, in its order, and that every segment restores."""
    found: list[str] = []
    for segment_id in reversed(scene.other.list_segments(SESSION_ID)):
        entries = sl.read_entries(scene.other, SESSION_ID, segment_id)
        found += [entry.payload for entry in entries if isinstance(entry, sl.Extension) and entry.domain == "voice"]
    times = Counter(found)
    for voice in voices:
        wrong = [text for text in voice.said if times[text] != 1]
        must(not wrong, f"acknowledged, and not on file once: {wrong[:5]} of {len(wrong)}")
        mine = [text for text in found if text.rpartition(".")[0] == voice.name]
        must(sorted(mine, key=_number) == mine, f"the entries of {voice.name} are out of order")
    scene.everything_restores()
    scene.locks_are_free()
    return len(found)


def _number(text: str) -> int:
    return int(text.rpartition(".")[2])


def _together(acts: Sequence[Callable[[], object]]) -> None:
    errors: list[BaseException] = []
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        try:
            gate.wait()
            act()
        except BaseException as exc:  # noqa: BLE001  raised below
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
            must(not thread.is_alive(), "a thread waits for ever")
    finally:
        sys.setswitchinterval(before)
    if errors:
        raise errors[0]


# ── ways of living ─────────────────────────────────────────────────────────────────────────────────────────────────


def _threads(scene: Scene, chance: random.Random) -> int:
    voices = [Voice(f"thread{number}", chance.getrandbits(32)) for number in range(THREADS)]
    acts: list[Callable[[], object]] = [functools.partial(voice.speak, scene.writer, 6) for voice in voices]
    acts += [functools.partial(scene.writer.fork_at, 1), scene.writer.sync] * 4
    _together(acts)
    must(scene.at[1] == SEGMENT_ID, "the writer forked, though nobody else wrote")
    scene.state_is_on_file()
    return _each_once(scene, voices)


def _stores(scene: Scene, chance: random.Random) -> int:
    third = sl.FsStore(scene.root, durability="process")
    voices = [Voice(f"voice{number}", chance.getrandbits(32)) for number in range(6)]
    writers = [sl.SegmentWriter.resume(store, SESSION_ID, SEGMENT_ID) for store in (scene.store, scene.other, third)]
    acts: list[Callable[[], object]] = []
    for voice, writer in zip(voices, writers, strict=False):
        acts.append(functools.partial(voice.speak, writer, 10))
    for voice, store in zip(voices[3:], (scene.store, scene.other, third), strict=True):
        acts.append(functools.partial(voice.call, store, 10))
    _together(acts)
    for voice, writer in zip(voices, writers, strict=False):
        payloads = [record.payload for record in writer.state.extensions]
        must(
            [text for text in payloads if text in voice.said] == voice.said, f"the state lacks entries of {voice.name}"
        )
        writer.close()
    third.close()
    return _each_once(scene, voices)


def _children(scene: Scene, chance: random.Random) -> int:
    voices = [Voice(f"parent{number}", chance.getrandbits(32)) for number in range(2)]
    caller = Voice("caller", chance.getrandbits(32))
    young = [Voice(f"child{number}", chance.getrandbits(32)) for number in range(4)]
    done = threading.Event()

    def bear() -> None:
        children: list[Child] = []
        try:
            for voice, act in zip(young, (_speak, _speak, _call, _call), strict=True):
                children.append(Child(functools.partial(act, scene, voice)))
            for voice, child in zip(young, children, strict=True):
                voice.said = list(child.results())
        finally:
            done.set()
            for child in children:
                with child:
                    continue  # which ends it, if it has not ended

    def until_done(voice: Voice, act: Callable[[], None]) -> None:
        while not done.is_set() and len(voice.said) < MOST:
            act()

    acts: list[Callable[[], object]] = [
        functools.partial(until_done, voice, functools.partial(voice.speak, scene.writer, 2)) for voice in voices
    ]
    acts.append(functools.partial(until_done, caller, functools.partial(caller.call, scene.store, 2)))
    _together([bear, *acts])
    return _each_once(scene, [*voices, caller, *young])


def _speak(scene: Scene, voice: Voice) -> Acknowledged:
    """Do what a child may do with what it inherited: the parent's writer, its stores and pods, all of them open."""
    voice.speak(scene.writer, 10)
    scene.pods.update("pod", lambda old: old or sl.PodMetadata("pod"))
    scene.store.put_blob(voice.name.encode())
    voice.speak(scene.writer, 2)
    scene.state_is_on_file()
    return voice.said


def _call(scene: Scene, voice: Voice) -> Acknowledged:
    """Append through the parent's store, over a descriptor that it had open."""
    voice.call(scene.store, 100)
    return voice.said
