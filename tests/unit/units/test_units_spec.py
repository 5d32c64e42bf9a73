"""Units: what is refused, what is remembered, and how a description becomes properties."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from components.common.units import ProcessRunner, UnitError, UnitSpec, UnitState, UnitStatus, accounts
from components.common.units.properties import Files, escape_path, properties

FILES = Files(Path("/run/x.env"), Path("/run/x.passwd"), Path("/run/x.group"))


def spec(directory: Path, *argv: str, **more: object) -> UnitSpec:
    return UnitSpec("unit-1", argv or ("/bin/true",), directory, **more)  # type: ignore[arg-type]


def first_number(path: Path) -> int:
    """Wait for what a program writes."""
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.01)
    return int(path.read_text())


def state(pid: int) -> str:
    """A process's state; one that ended may be a zombie until whoever adopted it looks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def has_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while state(pid) not in {"gone", "Z"}:
        assert time.monotonic() < deadline, f"process {pid} lives"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "../x"}, "unit name"),
        ({"name": "a b"}, "unit name"),
        ({"argv": []}, "absolute"),
        ({"argv": ["true"]}, "absolute"),
        ({"environment": {"A-B": "x"}}, "'A-B'"),
        ({"environment": {"A": "top\0secret"}}, "value of A"),
        ({"environment": {"A": "top\ufffesecret"}}, "value of A"),
    ],
)
def test_what_no_runner_could_carry_is_refused(change: dict[str, object], word: str) -> None:
    fields: dict[str, object] = {"name": "u", "argv": ["/bin/true"], "directory": Path("/"), **change}
    with pytest.raises(UnitError, match=word) as caught:
        UnitSpec(**fields).check()  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_a_specification_never_shows_its_environment() -> None:
    assert "hush" not in repr(spec(Path("/"), environment={"A": "hush"}))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (UnitStatus(UnitState.EXITED, exit_code=3, result="exit-code"), "exited with status 3"),
        (UnitStatus(UnitState.EXITED, signal=9, result="signal"), "killed by signal 9"),
        (
            UnitStatus(UnitState.EXITED, signal=9, result="oom-kill"),
            "killed by the kernel for want of memory",
        ),
        (UnitStatus(UnitState.EXITED, signal=15, result="timeout"), "ran too long"),
        (UnitStatus(UnitState.EXITED, result="unknown"), "ended unseen"),
    ],
)
def test_an_end_is_told_in_words(status: UnitStatus, words: str) -> None:
    assert status.describe() == words


def test_properties_hide_the_neighbours_and_hold_no_secret() -> None:
    whole = spec(
        Path("/var/lib/ingot/dea/instances/a"),
        "/bin/bash",
        uid=50001,
        memory_mb=64,
        tasks=10,
        nofile=20,
        file_mb=7,
        environment={"A": "hush"},
        empty=[Path("/var/lib/ingot")],
        hidden=[Path("/etc/ingot")],
    )
    found = {name: value.value for name, value in properties(whole, FILES)}
    assert found["BindPaths"] == [
        ["/var/lib/ingot/dea/instances/a", "/var/lib/ingot/dea/instances/a", False, 0x4000]
    ]
    assert found["TemporaryFileSystem"][:2] == [
        ["/var/lib/ingot", "ro,mode=0755"],
        ["/run", "ro,mode=0755"],
    ]
    assert ["/run/x.passwd", "/etc/passwd", False, 0x4000] in found["BindReadOnlyPaths"]
    assert ["/run/x.group", "/etc/group", False, 0x4000] in found["BindReadOnlyPaths"]
    # Where a machine has none, a resolver's folder is not missed.
    assert ["/run/systemd/resolve", "/run/systemd/resolve", True, 0x4000] in found["BindReadOnlyPaths"]
    assert found["InaccessiblePaths"] == ["-/etc/ingot"]
    assert found["MemoryMax"] == 64 * 1024 * 1024
    assert (found["MemorySwapMax"], found["OOMPolicy"]) == (0, "kill")
    assert (found["LimitFSIZE"], found["LimitFSIZESoft"]) == (7 * 1024 * 1024, 7 * 1024 * 1024)
    # Only the control group counts whom it refused, so it must be the first to refuse.
    assert found["TasksMax"] == 10 < found["LimitNPROC"]
    assert found["ProtectSystem"] == "strict"
    # To systemd an empty list takes back what an earlier one said.
    assert [] not in found.values()
    assert "hush" not in str(found)


def test_without_a_uid_it_runs_as_the_daemon_and_keeps_no_capability() -> None:
    found = {name: value.value for name, value in properties(spec(Path("/x"), "/bin/a", "$HOME"), FILES)}
    # systemd would put a variable's value there.
    assert found["ExecStart"][0][1] == ["/bin/a", "$$HOME"]
    assert found["CapabilityBoundingSet"] == 0
    assert found["ReadWritePaths"] == ["/x"]
    assert found["PrivateTmp"] is True
    # Programs of the platform's own, such as a play of the orchestrator, see the machine as it is.
    assert "/run" not in str(found["TemporaryFileSystem"])
    assert "BindReadOnlyPaths" not in found


def test_a_capability_is_for_a_program_of_ours_alone(tmp_path: Path) -> None:
    more = {"capabilities": ["CAP_SYS_ADMIN"], "system_calls": ["quotactl"]}
    given = properties(spec(tmp_path, "/usr/sbin/setquota", **more), FILES)
    found = {name: value.value for name, value in given}
    assert found["CapabilityBoundingSet"] == 1 << 21
    assert found["PrivateDevices"] is False
    assert "quotactl" in found["SystemCallFilter"][1]
    with pytest.raises(UnitError, match="keeps no capabilities"):
        spec(tmp_path, "/bin/true", uid=50001, **more).check()


def test_no_process_that_is_root_has_a_variable_of_a_guest() -> None:
    whole = spec(Path("/x"), "/bin/bash", "startup", uid=50001, environment={"LD_PRELOAD": "/proc/self/fd/1"})
    given = properties(whole, FILES)
    found = {name: value.value for name, value in given}
    # systemd takes the uid before it executes the first program, which is the guest's own: none is there to act as root before.
    assert (found["User"], found["Group"]) == ("50001", "50001")
    assert found["ExecStart"] == [["/bin/bash", ["/bin/bash", "startup"], False]]
    # Nothing else is executed, by no name and with no prefix that keeps root's powers, and no session is opened by PAM.
    assert [name for name, _value in given if name.startswith("Exec")] == ["ExecStart"]
    assert "PAMName" not in found
    assert "Environment" not in found
    assert found["CapabilityBoundingSet"] == 0
    assert "AmbientCapabilities" not in found


def test_a_guest_may_not_ask_for_another_uid() -> None:
    calls = [
        value.value
        for name, value in properties(spec(Path("/x"), uid=50001), FILES)
        if name == "SystemCallFilter"
    ]
    assert calls == [[True, ["@system-service"]], [False, ["@privileged", "@resources"]], [True, ["@chown"]]]
    plain = [value.value for name, value in properties(spec(Path("/x")), FILES) if name == "SystemCallFilter"]
    assert plain == [[True, ["@system-service"]]]


@pytest.mark.parametrize(
    ("environment", "home"),
    [
        ({"HOME": "/var/lib/x"}, "/var/lib/x"),
        ({}, "/x"),
        ({"HOME": "relative"}, "/x"),
        ({"HOME": "/a:/b"}, "/x"),
        ({"HOME": "/a\nroot2:x:0:0::/:/bin/sh"}, "/x"),
    ],
)
def test_a_guest_has_an_account_and_knows_no_neighbour(environment: dict[str, str], home: str) -> None:
    guest = spec(Path("/x"), uid=50001, gid=50002, environment=environment)
    lines = [line.split(":") for line in accounts.passwd(guest).splitlines()]
    assert [(line[0], line[2]) for line in lines] == [("root", "0"), ("app", "50001"), ("nobody", "65534")]
    assert lines[1] == ["app", "x", "50001", "50002", "", home, "/bin/bash"]
    groups = [line.split(":") for line in accounts.group(guest).splitlines()]
    assert [(line[0], line[2]) for line in groups] == [("root", "0"), ("app", "50002"), ("nogroup", "65534")]


def test_a_machine_without_the_accounts_is_told_which_and_what_to_do() -> None:
    assert accounts.problems("uids", [0], role="dea") == []
    account, group = accounts.problems("uids", [0, 77001, 77002, 77004], role="dea")
    assert account == (
        "uids: this machine has no account for 77001-77002, 77004, and no unit can start without: apply the role dea"
    )
    assert group.startswith("uids: this machine has no group for 77001-77002, 77004,")
    (only,) = accounts.problems("uid, gid", [0], gids=[77001], role="base")
    assert "no group for 77001" in only


def test_a_number_of_another_account_is_refused_by_its_name() -> None:
    root = pwd.getpwuid(0).pw_name
    (said,) = accounts.problems("uids", [0], role="dea", prefix="ingot-app-")
    assert said == (
        f"uids: 0 is the account {root} of this machine, not ingot-app-0, and a unit would have its groups:"
        f" give {root} another number"
    )


def test_accounts_of_guests_are_in_no_group_but_their_own() -> None:
    names = {77001: "ingot-app-77001", 77002: "ingot-app-77002"}
    own = grp.struct_group(("ingot-app-77001", "x", 77001, ["ingot-app-77001"]))
    docker = grp.struct_group(("docker", "x", 990, ["jdoe", "ingot-app-77001", "ingot-app-77009"]))
    assert accounts.strangers("uids", names, [own], "ingot-app-") == []
    (said,) = accounts.strangers("uids", names, [own, docker], "ingot-app-")
    assert said == (
        "uids: the account ingot-app-77001 is in the group docker, and so would a unit be:"
        " run gpasswd -d ingot-app-77001 docker"
    )


def test_many_accounts_of_others_are_counted() -> None:
    numbers = sorted({a.pw_uid for a in pwd.getpwall()})[:8]
    said = accounts.problems("uids", numbers, role="dea", prefix="ingot-app-", gids=[0])
    assert len(said) == 6
    assert said[-1] == "uids: 3 more of these"


def test_numbers_in_words() -> None:
    assert accounts.ranges([]) == ""
    assert accounts.ranges([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"


def test_unit_names_are_escaped_as_systemd_does() -> None:
    assert escape_path("ingot-app-0a.service") == "ingot_2dapp_2d0a_2eservice"
    assert escape_path("0a") == "_30a"


class TestProcessRunner:
    """Plain processes."""

    async def test_output_environment_and_status(self, tmp_path: Path) -> None:
        runner = ProcessRunner(tmp_path / "units")
        out = tmp_path / "out"
        await runner.start(
            spec(tmp_path, "/bin/sh", "-c", 'echo "$A"; pwd; exit 3', environment={"A": "b\r c"}, stdout=out)
        )
        status = await runner.wait("unit-1")
        assert (status.state, status.exit_code, status.result) == (UnitState.EXITED, 3, "exit-code")
        assert out.read_bytes() == f"b\r c\n{tmp_path}\n".encode()
        assert await runner.names("unit-") == ["unit-1"]
        await runner.stop("unit-1")
        assert (await runner.status("unit-1")).state is UnitState.MISSING
        assert await runner.names("") == []

    async def test_stop_ends_the_stubborn_with_all_they_started(self, tmp_path: Path) -> None:
        runner = ProcessRunner(tmp_path / "units")
        script = 'trap "" TERM; sleep 100 & echo $!; while :; do sleep 0.1; done'
        out = tmp_path / "out"
        await runner.start(spec(tmp_path, "/bin/sh", "-c", script, stdout=out))
        pid = (await runner.status("unit-1")).pid
        assert pid is not None
        child = await asyncio.to_thread(first_number, out)
        await runner.stop("unit-1", 0.2)
        # What was killed with SIGKILL dies when the kernel next lets it run.
        for gone in (pid, child):
            await asyncio.to_thread(has_ended, gone)

    async def test_a_name_is_taken_once(self, tmp_path: Path) -> None:
        runner = ProcessRunner(tmp_path / "units")
        await runner.start(spec(tmp_path, "/bin/sleep", "100"))
        with pytest.raises(UnitError, match="exists already"):
            await runner.start(spec(tmp_path, "/bin/sleep", "100"))
        await runner.stop("unit-1")

    async def test_what_cannot_be_executed_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UnitError, match="No such file"):
            await ProcessRunner(tmp_path / "units").start(spec(tmp_path, "/nowhere"))

    async def test_time_runs_out(self, tmp_path: Path) -> None:
        runner = ProcessRunner(tmp_path / "units")
        await runner.start(spec(tmp_path, "/bin/sleep", "100", timeout_seconds=0.1))
        assert (await runner.wait("unit-1")).result == "timeout"
        await runner.stop("unit-1")

    async def test_the_next_daemon_finds_and_ends_it(self, tmp_path: Path) -> None:
        first = ProcessRunner(tmp_path / "units")
        await first.start(spec(tmp_path, "/bin/sleep", "100"))
        await first.close()
        second = ProcessRunner(tmp_path / "units")
        status = await second.status("unit-1")
        assert status.alive
        waiting = asyncio.create_task(second.wait("unit-1"))
        assert status.pid is not None
        os.killpg(status.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, status.pid, 0)
        assert (await waiting).result == "unknown"
        await second.stop("unit-1")
        assert await second.names("") == []

    async def test_a_reused_pid_is_not_mistaken(self, tmp_path: Path) -> None:
        (tmp_path / "unit-1.json").write_text(f'{{"pid": {os.getpid()}, "born": 1}}')
        runner = ProcessRunner(tmp_path)
        assert (await runner.status("unit-1")).state is UnitState.EXITED
        await runner.stop("unit-1")
        assert await runner.names("") == []
