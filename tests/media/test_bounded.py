"""Misbehaving child processes are ended with all their descendants."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from promptreel.media import bounded
from promptreel.media.bounded import (
    Completed,
    DeadlinePassed,
    Limits,
    Stopped,
    failure_of,
    run_bounded,
    stream_bounded,
)
from promptreel.schemas.failure_codes import FAILURE_CODES

pytestmark = pytest.mark.usefixtures("leaves_nothing")
AMPLE = Limits(deadline_s=30)
SHORT = Limits(deadline_s=0.5)


def shell(script: str, *arguments: object) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *map(str, arguments)]


def python(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-I", "-c", script, *map(str, arguments)]


def is_running(pid_file: Path) -> bool:
    """Whether the process whose id is in the file is still running after a short wait."""
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    for _ in range(100):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True


def test_output_and_exit_code_are_returned() -> None:
    done, output = run_bounded(shell("printf 'one\\0two'; echo bad >&2; exit 7"), AMPLE)
    assert (done, output) == (Completed(7, "bad\n"), b"one\0two")


def test_arguments_are_passed_unchanged() -> None:
    odd = ["a b", "it's", '"q"', "$HOME", "*", "-n", "", "ü"]
    _, output = run_bounded(python("import sys; print(sys.argv[1:])", *odd), AMPLE)
    assert output.decode() == f"{odd}\n"


def test_child_inherits_neither_keys_nor_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "secret-key")
    _, output = run_bounded(shell("env; cat"), AMPLE)
    assert b"PATH=" in output
    assert b"secret-key" not in output


def test_deadline_kills_the_child_and_its_children(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed):
        run_bounded(shell('sleep 300 & echo $! > "$1"; wait', tmp_path / "pid"), SHORT)
    assert not is_running(tmp_path / "pid")


def test_deadline_kills_a_grandchild_that_holds_the_pipes(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed):
        run_bounded(shell('sleep 300 & echo $! > "$1"', tmp_path / "pid"), SHORT)
    assert not is_running(tmp_path / "pid")


def test_processes_left_by_a_child_are_killed(tmp_path: Path) -> None:
    done, _ = run_bounded(shell('sleep 300 >&- 2>&- & echo $! > "$1"', tmp_path / "pid"), AMPLE)
    assert done.returncode == 0
    assert not is_running(tmp_path / "pid")


def test_deadline_kills_a_child_that_closed_its_pipes(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed):
        run_bounded(shell('echo $$ > "$1"; exec sleep 300 >&- 2>&-', tmp_path / "pid"), SHORT)
    assert not is_running(tmp_path / "pid")


def test_child_that_ignores_signals_is_killed(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed):
        run_bounded(shell('trap "" TERM INT HUP; echo $$ > "$1"; while :; do sleep 1; done', tmp_path / "pid"), SHORT)
    assert not is_running(tmp_path / "pid")


def test_memory_limit_is_enforced() -> None:
    script = "block = bytearray(400 << 20); print(len(block))"
    assert run_bounded(python(script), Limits(30, memory_bytes=1 << 30))[0].returncode == 0
    done, output = run_bounded(python(script), Limits(30, memory_bytes=300 << 20))
    assert (done.returncode, output) == (1, b"")
    assert "MemoryError" in done.stderr


def test_child_that_hangs_after_a_memory_error_is_stopped(tmp_path: Path) -> None:
    script = 'echo $$ > "$1"; echo "x: Cannot allocate memory" >&2; exec sleep 300'
    done, _ = run_bounded(shell(script, tmp_path / "pid"), AMPLE)
    assert failure_of(done, "film").code == "decode_out_of_memory"
    assert not is_running(tmp_path / "pid")


def test_child_that_repeats_its_memory_error_is_stopped(tmp_path: Path) -> None:
    script = 'echo $$ > "$1"; while :; do echo "x: Cannot allocate memory" >&2; sleep 0.05; done'
    done, _ = run_bounded(shell(script, tmp_path / "pid"), AMPLE)
    assert failure_of(done, "film").code == "decode_out_of_memory"
    assert not is_running(tmp_path / "pid")


def test_child_that_recovers_from_a_memory_error_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_SILENCE_TIMEOUT_S", 1.0)
    done, output = run_bounded(
        shell('echo "x: Cannot allocate memory" >&2; for i in 1 2 3 4 5; do echo $i; sleep 0.4; done'), AMPLE
    )
    assert (done.returncode, output) == (0, b"1\n2\n3\n4\n5\n")


def test_file_size_limit_is_enforced_and_reported(tmp_path: Path) -> None:
    command = ["dd", "if=/dev/zero", f"of={tmp_path / 'large'}", "bs=65536", "count=100"]
    done, _ = run_bounded(command, Limits(30, file_bytes=1 << 20))
    assert (tmp_path / "large").stat().st_size == 1 << 20
    assert done.returncode == -signal.SIGXFSZ
    assert failure_of(done, "film").code == "media_too_large"


def test_no_core_file_is_written() -> None:
    assert run_bounded(shell("ulimit -c"), AMPLE)[1] == b"0\n"


def test_many_messages_do_not_block_and_the_last_are_returned() -> None:
    script = "import sys; [sys.stderr.write('x' * 99 + chr(10)) for _ in range(50000)]; print('y' * 3000000); "
    done, output = run_bounded(python(script + "sys.exit('the end')"), AMPLE)
    assert len(output) == 3_000_001
    assert done.stderr.endswith("the end\n")
    assert len(done.stderr) <= 8192


def test_no_pipe_blocks_another_in_any_order() -> None:
    script = "import os, sys; [os.write(int(fd), b'%d' % i * 3000000) for i, fd in enumerate(sys.argv[1:])]"
    got = {"a": bytearray(), "b": bytearray(), "c": bytearray()}

    def command(pipes: Mapping[str, int]) -> list[str]:
        return python(script, pipes["c"], pipes["a"], pipes["b"])

    done = stream_bounded(command, {name: block.extend for name, block in got.items()}, AMPLE)
    assert done == Completed(0, "")
    assert {name: (len(block), bytes(set(block))) for name, block in got.items()} == {
        "c": (3_000_000, b"0"),
        "a": (3_000_000, b"1"),
        "b": (3_000_000, b"2"),
    }


def endless(pid_file: Path) -> Callable[[Mapping[str, int]], list[str]]:
    """Return a builder of the command of a child that never stops writing."""
    return lambda pipes: shell('echo $$ > "$1"; exec cat /dev/zero > "/dev/fd/$2"', pid_file, pipes["out"])


def test_error_of_a_sink_kills_the_child_and_is_raised(tmp_path: Path) -> None:
    def sink(block: bytes) -> None:
        raise KeyError("from the sink")

    with pytest.raises(KeyError, match="from the sink"):
        stream_bounded(endless(tmp_path / "pid"), {"out": sink}, AMPLE)
    assert not is_running(tmp_path / "pid")


def test_stop_flag_kills_the_child(tmp_path: Path) -> None:
    received = bytearray()
    with pytest.raises(Stopped):
        stream_bounded(endless(tmp_path / "pid"), {"out": received.extend}, AMPLE, lambda: len(received) > 2_000_000)
    assert len(received) > 2_000_000
    assert not is_running(tmp_path / "pid")


def test_deadline_kills_a_child_that_never_stops_writing(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed):
        stream_bounded(endless(tmp_path / "pid"), {"out": lambda block: None}, SHORT)
    assert not is_running(tmp_path / "pid")


def test_second_command_reads_the_standard_output_of_the_first() -> None:
    received: dict[str, bytearray] = {"one": bytearray(), "two": bytearray()}
    done = stream_bounded(
        lambda pipes: shell('echo first >"/dev/fd/$1"; echo passed on', pipes["one"]),
        {name: block.extend for name, block in received.items()},
        AMPLE,
        build_reader=lambda pipes: shell('read line; echo "$line" >"/dev/fd/$1"; echo heard >&2', pipes["two"]),
    )
    assert (done, received) == (Completed(0, "heard\n"), {"one": b"first\n", "two": b"passed on\n"})


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("echo one >&2; exit 3", "cat; echo two >&2; exit 4", Completed(3, "two\none\n")),
        ("exit 0", "cat; echo two >&2; exit 4", Completed(4, "two\n")),
        ("exec cat /dev/zero", "echo two >&2; exit 4", Completed(-signal.SIGPIPE, "two\n")),
    ],
    ids=["both fail", "the second fails", "the second does not read"],
)
def test_failure_of_either_command_is_the_result(first: str, second: str, expected: Completed) -> None:
    assert stream_bounded(lambda _: shell(first), {}, AMPLE, build_reader=lambda _: shell(second)) == expected


def test_deadline_kills_both_commands(tmp_path: Path) -> None:
    script = 'echo $$ > "$1"; exec sleep 300'
    pids = tmp_path / "first", tmp_path / "second"
    with pytest.raises(DeadlinePassed):
        stream_bounded(lambda _: shell(script, pids[0]), {}, SHORT, build_reader=lambda _: shell(script, pids[1]))
    assert not any(is_running(pid) for pid in pids)


def test_first_command_is_killed_if_the_second_cannot_be_built(tmp_path: Path) -> None:
    def reader(pipes: Mapping[str, int]) -> list[str]:
        raise ValueError("no command")

    with pytest.raises(ValueError, match="no command"):
        stream_bounded(lambda _: shell("sleep 300"), {"out": lambda block: None}, AMPLE, build_reader=reader)


def test_error_while_building_a_command_leaves_no_pipe() -> None:
    def command(pipes: Mapping[str, int]) -> list[str]:
        raise ValueError("no command")

    with pytest.raises(ValueError, match="no command"):
        stream_bounded(command, {"out": lambda block: None}, AMPLE)


def test_missing_program_is_a_failure_that_names_it() -> None:
    done, _ = run_bounded(["/nowhere/ffmpeg"], AMPLE)
    assert done.returncode == 127
    assert "/nowhere/ffmpeg" in failure_of(done, "film.mp4").message


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (Completed(1, "Error: Cannot allocate memory\n"), "decode_out_of_memory"),
        (Completed(-signal.SIGABRT, "terminate called: std::bad_alloc"), "decode_out_of_memory"),
        (Completed(245, "Error while opening decoder: Resource temporarily unavailable"), "decode_out_of_memory"),
        (Completed(-signal.SIGKILL, ""), "decode_out_of_memory"),
        (Completed(-signal.SIGXFSZ, ""), "media_too_large"),
        (Completed(-signal.SIGSEGV, ""), "media_corrupt"),
        (Completed(1, "moov atom not found"), "media_corrupt"),
        (Completed(0, ""), "media_corrupt"),
    ],
)
def test_abnormal_exits_become_failures_that_name_item_and_cause(done: Completed, code: str) -> None:
    error = failure_of(done, "some/film.mp4")
    assert error.code == code
    assert code in FAILURE_CODES
    assert error.message.startswith("some/film.mp4: ")
    if done.stderr.strip():
        assert done.stderr.strip() in error.message or code == "media_too_large"


def test_child_has_a_separate_session() -> None:
    _, output = run_bounded(python("import os; print(os.getsid(0) == os.getpid() != os.getsid(os.getppid()))"), AMPLE)
    assert output == b"True\n"
