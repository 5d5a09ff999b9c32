"""The launcher ``run``, with a stand-in for uv that records what it is asked to install.

The real installation, from nothing and over the network, is a step of ``.ci/run``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

STAND_IN_FOR_UV = """#!/bin/sh
printf '%s\\n' "$*" >>"$UV_LOG"
case "$1 $2" in
"venv --quiet")
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\nprintf "python:"; printf " [%%s]" "$@"; echo\\n' >"$3/bin/python"
    chmod +x "$3/bin/python"
    ;;
"pip sync") sleep "${SLOW:-0}" ;;
"pip install")
    [ ! -e "$UV_LOG.broken" ] || exit 7
    slipstream=$(dirname "$5")/slipstream
    cat >"$slipstream" <<'TEXT'
#!/bin/sh
printf "slipstream in %s:" "$PWD"
printf " [%s]" "$@"
echo
exit ${ANSWER:-0}
TEXT
    chmod +x "$slipstream"
    ;;
esac
"""

TOOLS = ("bash", "cat", "chmod", "cmp", "cp", "dirname", "flock", "head", "mkdir", "mktemp", "mv", "rm", "sed", "sh")


class Checkout:
    """A folder with a space in its name that holds the launcher, its pins and a PATH of its own."""

    def __init__(self, root: Path, repository: Path, tools: Path) -> None:
        self.root = root
        self.tools = tools
        self.log = root.parent / "uv.log"
        root.mkdir()
        for name in ("run", "requirements.lock", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(repository / name, root / name)

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": str(self.tools), "UV_LOG": str(self.log), "HOME": str(self.root.parent), **variables}

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "run"), *words],
            cwd=cwd or self.root,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def syncs(self) -> int:
        return sum(line.startswith("pip sync") for line in self.log.read_text().splitlines())


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*TOOLS, "sleep"):
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    (folder / "uv").write_text(STAND_IN_FOR_UV)
    (folder / "uv").chmod(0o755)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, repository: Path, tools: Path) -> Checkout:
    return Checkout(tmp_path / "a check out", repository, tools)


def test_words_reach_the_command_unchanged_and_from_the_callers_folder(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run("backtest", "--data", "my file", "", "*", cwd=tmp_path)
    assert done.stdout == f"slipstream in {tmp_path}: [backtest] [--data] [my file] [] [*]\n"


def test_the_exit_code_is_the_commands(checkout: Checkout) -> None:
    assert checkout.run("data", ANSWER="3").returncode == 3


def test_tests_run_in_the_pinned_environment_with_their_arguments(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run("test", "--full", "-k", "two words", cwd=tmp_path)
    assert done.stdout == "python: [-m] [pytest] [-n] [2] [--dist] [worksteal] [--full] [-k] [two words]\n"


def test_a_second_call_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.run("demo")
    again = checkout.run("demo")
    assert checkout.syncs == 1
    assert again.stderr == ""


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_pins_are_installed_by_the_next_call(checkout: Checkout, name: str) -> None:
    checkout.run("demo")
    with (checkout.root / name).open("a") as file:
        file.write("\n# changed\n")
    checkout.run("demo")
    assert checkout.syncs == 2


def test_pins_are_installed_with_their_hashes_and_the_project_without_dependencies(checkout: Checkout) -> None:
    checkout.run("demo")
    sync, install = checkout.log.read_text().splitlines()[-2:]
    assert sync.endswith("--require-hashes requirements.lock")
    assert install.endswith("--no-deps --editable .")


def test_a_failed_installation_is_not_taken_for_a_finished_one(checkout: Checkout) -> None:
    broken = Path(f"{checkout.log}.broken")
    broken.touch()
    assert checkout.run("demo").returncode == 7
    broken.unlink()
    assert checkout.run("demo").returncode == 0
    assert checkout.syncs == 2


def test_a_killed_installation_is_taken_up_by_the_next_call(checkout: Checkout) -> None:
    first = subprocess.Popen(
        [str(checkout.root / "run"), "demo"], env=checkout.environment(SLOW="30"), start_new_session=True
    )
    deadline = time.monotonic() + 30
    while not (checkout.log.exists() and checkout.syncs):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert checkout.run("demo").returncode == 0
    assert checkout.syncs == 2


def test_calls_at_the_same_time_install_once(checkout: Checkout) -> None:
    started = [
        subprocess.Popen(
            [str(checkout.root / "run"), "demo"],
            env=checkout.environment(SLOW="0.3"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=60)[0] for process in started]
    assert all("[demo]" in answer for answer in answers)
    assert checkout.syncs == 1


def test_a_moved_checkout_makes_its_environment_anew(checkout: Checkout) -> None:
    checkout.run("demo")
    (checkout.root / ".venv" / "left over").touch()
    moved = checkout.root.rename(checkout.root.parent / "elsewhere")
    subprocess.run([str(moved / "run"), "demo"], env=checkout.environment(), check=True, capture_output=True)
    assert not (moved / ".venv" / "left over").exists()


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    checkout.run("demo")
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.run("demo").returncode == 0
    assert (checkout.root / ".venv" / "bin" / "python").exists()


def test_without_uv_and_python_it_says_what_to_install(checkout: Checkout) -> None:
    (checkout.tools / "uv").unlink()
    done = checkout.run("demo")
    assert done.returncode == 1
    assert done.stderr == (
        "run: neither uv nor Python 3.11 or later is on PATH; install one with: sudo apt install python3 python3-venv\n"
    )


def test_with_a_python_that_lacks_venv_it_says_what_to_install(checkout: Checkout) -> None:
    (checkout.tools / "uv").unlink()
    python = checkout.tools / "python3"
    python.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\n')
    python.chmod(0o755)
    done = checkout.run("demo")
    assert done.returncode == 1
    assert done.stderr == "run: this Python has no venv module; install it with: sudo apt install python3-venv\n"
