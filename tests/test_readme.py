"""What README, CONTRIBUTING and docs/ show is true: examples run and print what they say, commands, files and
options that they name exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md")),
]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str, str]]:
    """(page, Python block, the ```text block after it, which is its output, or nothing)."""
    found = []
    for page in PAGES:
        shown = blocks(read(page))
        for block, following in zip(shown, [*shown, ("", "")][1:], strict=True):
            if block[0] == "python":
                found.append((page, block[1], following[1] if following[0] == "text" else ""))
    return found


def python(code: str, folder: Path) -> str:
    """What `code` prints in a new interpreter; anything on stderr is an error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert run.stderr == ""
    assert run.returncode == 0
    return run.stdout


@pytest.mark.parametrize(("page", "code", "output"), examples(), ids=lambda value: value.strip()[:20])
def test_examples_run_and_print_what_the_page_says(page, code, output, tmp_path):
    assert python(code, tmp_path) == output


def test_readme_has_an_example_with_output():
    assert [(page, bool(output)) for page, _, output in examples()].count(("README.md", True)) >= 1


def commands(text: str) -> list[str]:
    """Shell lines of a page, without comments."""
    lines = "".join(content for language, content in blocks(text) if language == "sh").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(commands(read(page)))))
    named |= set(re.findall(r"`make ([a-z-]+)", read(page)))
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES)
def test_options_of_the_trainer_exist(page):
    lines = [line for line in commands(read(page)) if "minigrad.train" in line or "make train" in line]
    named = set(re.findall(r"(--[a-z][a-z-]*)", "\n".join(lines)))
    if page == "README.md":
        assert named
    if named:
        known = set(
            re.findall(r"--[a-z][a-z-]*", python("from minigrad.train import main; main(['--help'])", ROOT))
        )
        assert named - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_linked_exist(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(page))
    links += [
        line for kind, text in blocks(read(page)) if kind.startswith("{image}") for line in [kind[7:]] if line
    ]
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []


def test_the_gate_runs_what_the_readme_says():
    """`.ci/run` takes the commands out of the README; this is what it has to find there."""
    command = [sys.executable, ".ci/readme_commands.py", "README.md"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.split("\n")
    assert found == ["make train", "make test", ""]
