"""Four tools over one folder. Each is a struct: its docstring and fields are what the model is told about it.

The file tools refuse any path outside the folder. A command starts in the folder, with an environment of its own (no
keys in it) and a time limit; that is no sandbox: give an agent you do not trust a container.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from session_log import ToolCall, ToolResult

MAX_OUTPUT_CHARS = 20_000
"""What a model gets to see of one output: the rest of a runaway log would only fill its context."""


class ListFiles(msgspec.Struct, frozen=True):
    """List all files in the workspace."""


class ReadFile(msgspec.Struct, frozen=True):
    """Return the text of a file in the workspace."""

    path: str


class WriteFile(msgspec.Struct, frozen=True):
    """Create or replace a file in the workspace."""

    path: str
    text: str


class RunCommand(msgspec.Struct, frozen=True):
    """Run a shell command in the workspace; returns its exit status and what it printed."""

    command: str


Request: TypeAlias = ListFiles | ReadFile | WriteFile | RunCommand
TOOLS: dict[str, type[Request]] = {
    "list_files": ListFiles,
    "read_file": ReadFile,
    "write_file": WriteFile,
    "run_command": RunCommand,
}


def tool_schemas() -> list[dict[str, Any]]:
    """Return name, description and JSON schema of every tool, as chat-completions endpoints want them."""
    _, schemas = msgspec.json.schema_components(TOOLS.values())
    return [
        {"name": name, "description": tool.__doc__, "parameters": schemas[tool.__name__]}
        for name, tool in TOOLS.items()
    ]


class ToolError(Exception):
    """The tool cannot do what was asked; the model is told why."""


class Workspace:
    """The folder an agent works in."""

    def __init__(self, folder: Path, *, timeout_s: float = 60.0) -> None:
        self.folder = folder.resolve()
        self.timeout_s = timeout_s

    def run(self, call: ToolCall, *, started: Callable[[ToolCall], None]) -> ToolResult:
        """Run a tool and return its result; whatever goes wrong is a result too, with ``is_error``."""
        try:
            request = _parse(call)
            if isinstance(request, RunCommand):
                return self._run_command(call, request.command, started)
            started(call)
            match request:
                case ListFiles():
                    return self._list(call)
                case ReadFile(path=path):
                    text = self._inside(path).read_text(encoding="utf-8", errors="replace")
                    return ToolResult(call.call_id, f"{path}: {len(text)} characters", _clip(text))
                case WriteFile(path=path, text=text):
                    self._write(path, text)
                    return ToolResult(call.call_id, f"{path}: {len(text)} characters written")
        except (ToolError, OSError) as exc:
            return ToolResult(call.call_id, f"{call.name} failed: {exc}", is_error=True)

    def _list(self, call: ToolCall) -> ToolResult:
        names = sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())
        return ToolResult(call.call_id, f"{len(names)} files", _clip("\n".join(names)))

    def _write(self, path: str, text: str) -> None:
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8", errors="replace")

    def _run_command(self, call: ToolCall, command: str, started: Callable[[ToolCall], None]) -> ToolResult:
        if "\0" in command:
            raise ToolError("the command holds a NUL character")
        process = subprocess.Popen(
            ["/bin/sh", "-c", command.encode(errors="replace")],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own: a time limit must end its children too
        )
        try:
            started(call)
            output, _ = process.communicate(timeout=self.timeout_s)
        except subprocess.TimeoutExpired as exc:
            text = (exc.output or b"").decode(errors="replace")
            return ToolResult(call.call_id, f"stopped after {self.timeout_s:g} s", _clip(text), is_error=True)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            assert process.stdout is not None
            process.stdout.close()
        status = process.returncode
        return ToolResult(call.call_id, f"exit {status}", _clip(output.decode(errors="replace")), is_error=status != 0)

    def _environment(self) -> dict[str, str]:
        python = str(Path(sys.executable).parent)
        path = os.pathsep.join([python, os.environ.get("PATH", os.defpath)])
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def _inside(self, path: str) -> Path:
        """Return the path, links followed, if it lies in the workspace."""
        if "\0" in path:
            raise ToolError("the path holds a NUL character")
        resolved = (self.folder / path).resolve()
        if not resolved.is_relative_to(self.folder):
            raise ToolError(f"{path!r} is outside the workspace")
        return resolved


def _parse(call: ToolCall) -> Request:
    tool = TOOLS.get(call.name)
    if tool is None:
        raise ToolError(f"there is no such tool; there are {', '.join(TOOLS)}")
    try:
        return msgspec.json.decode(call.arguments or "{}", type=tool)
    except msgspec.MsgspecError as exc:
        raise ToolError(f"bad arguments: {exc}") from exc


def _clip(text: str) -> str:
    """Keep the beginning and the end of a long output: a failure is usually told last."""
    if len(text) <= MAX_OUTPUT_CHARS:
        return text
    half = MAX_OUTPUT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
