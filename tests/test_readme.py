"""README.md and docs/ are run: all commands and Python blocks, in a copy of the checkout.

In a ```console block a line `$ command` is followed by what the command prints, stdout and
stderr together; `...` stands for any text, on a line of its own for any lines, and nothing at
all says nothing. In a ```bash block every line is a command. A command exits with 0, unless
what is shown under it is an error or a verdict that says otherwise. Between backticks in
a text or table, `onnx-net2net COMMAND` is run too, in docs/; it may replace what is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "*.widened.onnx", "*.deepened.onnx",
    "*.grown.onnx", "/*.onnx",
)  # fmt: skip
# Installing is not repeated here, and the tests do not run themselves: they are only collected.
INSTALLING = re.compile(
    r"(python3? -m )?pip install |python3? -m venv |(\.|source) \S+/activate$|git clone |cd "
)
TESTING = re.compile(r"(python3? -m )?pytest$")
VERDICTS = {"error: ": {2, 3, 4, 5, 6}, "different: ": {1}, "cannot tell: ": {5}}


@dataclass
class Block:
    """A fenced block: its language, the line it starts on, and its text."""

    file: str
    language: str
    line: int
    lines: list[str] = field(default_factory=list)

    @property
    def needs_torch(self) -> bool:
        return "import torch" in self.lines

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands and the output shown under each."""
        found: list[tuple[str, list[str]]] = []
        for line in self.lines:
            if self.language == "bash":
                found += [(line, [])] if line.strip() and not line.startswith("#") else []
            elif line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
        return found


def blocks(file: str) -> list[Block]:
    text = (ROOT / file).read_text(encoding="utf-8")
    found: list[Block] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
            if inside:
                found.append(Block(file, line[3:].strip(), number))
        elif inside:
            found[-1].lines.append(line)
    return found


def spans(file: str) -> list[str]:
    """Commands between backticks, outside of blocks."""
    text = re.sub(r"^```.*?^```", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`(onnx-net2net [^`]+)`", text)


DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
BLOCKS = [block for file in ("README.md", *DOCS) for block in blocks(file)]
CASES = [
    pytest.param(b, id=f"{b.file}-line{b.line}", marks=[pytest.mark.torch] * b.needs_torch)
    for b in BLOCKS
]
SPANS = list(dict.fromkeys(span for file in DOCS for span in spans(file)))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with ../shared beside it where ours has one."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT, folder / "checkout", ignore=LEFT_OUT)
    if SHARED.is_dir():
        (folder / "shared").symlink_to(SHARED, target_is_directory=True)
    programs = folder / "bin"
    programs.mkdir()
    for name, command in (("python", ""), ("onnx-net2net", "-m onnx_net2net ")):
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n')
        path.chmod(0o755)
    return folder / "checkout"


def bash(command: str, checkout: Path) -> tuple[int, str]:
    """Exit code and everything printed."""
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(checkout), "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=checkout, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    return done.returncode, done.stdout


def runnable(command: str) -> str:
    """The command without the parts that install; "" if nothing is left."""
    parts = [p.strip() for p in command.split(" && ")]
    parts = [p for p in parts if not INSTALLING.match(p)]
    return " && ".join(f"{p} --collect-only -q" if TESTING.match(p) else p for p in parts)


def shown(lines: list[str]) -> re.Pattern[str]:
    """What output must match to be the lines shown."""
    pattern = ""
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    for line in lines:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ \t]*\n"
    return re.compile(pattern)


def codes(lines: list[str]) -> set[int]:
    """The exit codes that fit what is shown."""
    first = lines[0] if lines else ""
    return next((c for start, c in VERDICTS.items() if first.startswith(start)), {0})


@pytest.mark.parametrize("block", CASES)
def test_block(block: Block, checkout: Path) -> None:
    if block.language == "yaml":  # a recipe: its first line says which file it is
        name = block.lines[0].removeprefix("# ")
        assert name.endswith(".yaml"), "say in the first line which file it is"
        (checkout / name).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
        return
    if block.needs_torch:
        pytest.importorskip("torch", reason="needs PyTorch, the extra [torch]")
    if block.language == "python":
        (checkout / "block.py").write_text("\n".join(block.lines), encoding="utf-8")
        code, printed = bash("python block.py", checkout)
        assert code == 0, printed
        return
    assert block.language in ("console", "bash", "text", ""), "say what the block holds"
    for command, lines in block.commands:
        todo = runnable(command)
        if not todo or ("../shared" in todo and not SHARED.is_dir()):
            continue
        code, printed = bash(todo, checkout)
        assert code in codes(lines), f"$ {command}\n{printed}"
        if any(line.strip() for line in lines):
            assert shown(lines).fullmatch(printed), f"$ {command}\n{printed}"


@pytest.mark.parametrize("command", SPANS)
def test_span(command: str, checkout: Path) -> None:
    code, printed = bash(f"{command} --force", checkout)
    assert code == 0, printed
    assert "\nwrote " in printed


def test_something_is_run() -> None:
    assert len(SPANS) > 20
    commands = [
        c
        for b in BLOCKS
        if b.file == "README.md" and b.language in ("console", "bash")
        for c, _ in b.commands
    ]
    for verb in ("inspect", "widen", "verify"):
        assert any(c.startswith(f"onnx-net2net {verb} ") for c in commands), verb
    assert any(b.language == "python" for b in BLOCKS)


@pytest.mark.parametrize(
    ("lines", "printed", "fits"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a"], "a\nb\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["a", "...", "d"], "a\nb\nc\nd\n", True),
        (["a", "...", "d"], "a\nd\n", True),
        (["took ... s"], "took 0.2 s\n", True),
        (["took ... s"], "took 0.2 s\nmore\n", False),
        (["1+1", ""], "1+1\n", True),
    ],
)
def test_wildcards(lines: list[str], printed: str, fits: bool) -> None:
    assert bool(shown(lines).fullmatch(printed)) is fits


def test_installing_is_recognised() -> None:
    assert runnable("python -m pip install '.[test]' && python -m pytest") == (
        "python -m pytest --collect-only -q"
    )
    assert runnable("python -m venv .venv && . .venv/bin/activate") == ""
    assert runnable("pip install . && onnx-net2net inspect a.onnx") == "onnx-net2net inspect a.onnx"
