"""Hypothesis profiles, and the walls around every test: no test touches the user's own sessions or endpoints."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline and no check for speed: a busy machine is no defect of the code.
settings.register_profile("dev", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", settings.get_profile("dev"), max_examples=150, database=None, derandomize=True, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

OF_THE_USER = re.compile(r"OPENAI_\w+|SESSION_LOG_\w+|XDG_DATA_HOME")


@pytest.fixture(scope="session", autouse=True)
def neutral_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the user's endpoint, point the default root into a temporary folder, and `python` to this interpreter.

    It holds here and in every process that a test starts.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in filter(OF_THE_USER.fullmatch, list(os.environ)):
            patch.delenv(name)
        patch.setenv("SESSION_LOG_ROOT", str(tmp_path_factory.mktemp("default_root")))
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def run() -> Callable[[Sequence[str | Path], Path], str]:
    """Return a function that runs a command in a folder and returns what it prints; if it fails, so does the test."""

    def run_command(command: Sequence[str | Path], cwd: Path) -> str:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{command} returned {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run_command


@pytest.fixture(scope="session")
def package_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip the test if pip cannot fetch what a build of this project needs."""
    probe = [sys.executable, "-m", "pip", "download", "--no-deps", "hatchling"]
    if subprocess.run(probe, cwd=tmp_path_factory.mktemp("probe"), capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package index here: nothing can be built or installed")
