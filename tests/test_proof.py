"""The proofs, in their short versions, and that a proof which finds something says so."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from proof import run
from proof.lab import Lab, Skipped, Tried

SEED = 1


@pytest.mark.slow
@pytest.mark.parametrize("name", run.PROOFS)
def test_every_promise_holds(name: str, tmp_path: Path) -> None:
    """The short version of ``python tests/proof/run.py NAME``, which tries far more.

    In a process of its own, and not measured: some take the memory or the trace function away from whoever runs them.
    """
    record = tmp_path / "proof.json"
    options = ["--quick", "--seed", str(SEED), "--json", str(record), "--dir", str(tmp_path)]
    unmeasured = {key: value for key, value in os.environ.items() if not key.startswith("COV")}

    command = [sys.executable, run.__file__, *options, name]
    proof = subprocess.run(command, env=unmeasured, capture_output=True, text=True, check=False)

    found = orjson.loads(record.read_bytes())
    if name in found["skipped"]:
        pytest.skip(found["skipped"][name])
    assert found["rows"], proof.stderr
    assert [row["broken"] for row in found["rows"] if row["broken"]] == []
    assert all(row["holds"] for row in found["rows"])
    assert proof.returncode == 0


def held(lab: Lab) -> list[Tried]:
    return [Tried(promise="the sun rises", unit="days", tried=lab.amount(9, 3))]


def broke(lab: Lab) -> list[Tried]:
    return [Tried(promise="the sun rises", unit="days", tried=3, broken=("day 2: it did not",))]


def untried(lab: Lab) -> list[Tried]:
    return [Tried(promise="the sun rises", unit="days", tried=0)]


def impossible(lab: Lab) -> list[Tried]:
    raise Skipped("there is no sun here")


@pytest.fixture
def proofs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("held", "broke", "untried", "impossible")
    monkeypatch.setattr(run, "PROOFS", {name: f"test:{name}" for name in names})
    monkeypatch.setattr(run, "import_module", lambda name: sys.modules[__name__])


@pytest.mark.usefixtures("proofs")
def test_a_proof_that_holds_ends_with_0_and_names_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    status = run.main(["held", "--seed", "7"])

    assert status == 0
    assert "9 of         9 days" in (said := capsys.readouterr().out)
    assert "seed 7: everything holds" in said


@pytest.mark.usefixtures("proofs")
@pytest.mark.parametrize(("name", "said"), [("broke", "day 2: it did not"), ("untried", "BROKEN")])
def test_a_promise_that_broke_or_was_never_tried_ends_with_1(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run.main([name, "held"])

    assert status == 1
    assert said in (out := capsys.readouterr().out)
    assert "NOT EVERYTHING HOLDS" in out


@pytest.mark.usefixtures("proofs")
def test_a_machine_that_cannot_run_a_proof_says_why_and_everything_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = run.main(["impossible", "broke", "--quick", "--json", str(tmp_path / "proof.json")])

    assert status == 1
    assert "impossible: skipped: there is no sun here" in capsys.readouterr().out
    record = orjson.loads((tmp_path / "proof.json").read_bytes())
    assert record["skipped"] == {"impossible": "there is no sun here"}
    assert [(row["proof"], row["holds"], row["tried"]) for row in record["rows"]] == [("broke", False, 3)]


@pytest.mark.usefixtures("proofs")
def test_a_proof_there_is_not_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.main(["moon"])

    assert refused.value.code == 2
    assert "'moon' is no proof; there are held, broke, untried, impossible" in capsys.readouterr().err
