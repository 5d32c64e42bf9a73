"""The journal, and what is decided from it and from what the host shows."""

from pathlib import Path

import pytest

from orchestrator.lab.errors import LabError
from orchestrator.lab.journal import (
    Bind,
    Journal,
    LabRecord,
    Leftovers,
    Life,
    MachineRecord,
    Process,
    Seen,
    abandoned,
    leftovers,
)

ROOT = "/s/labs/one/machines/m1/root"


def lab(name: str = "one", holder: Process | None = None) -> LabRecord:
    machine = MachineRecord(name="m1", address="198.18.0.2", image="bookworm", image_root="/i/root")
    return LabRecord(
        name=name, index=0, subnet="198.18.0.0/24", port=8080, owner="/here",
        holder=holder, routers=["m1"], machines={"m1": machine},
    )  # fmt: skip


def seen(**changes: object) -> Seen:
    facts: dict[str, object] = {
        "bridges": {"ing-0": "one"},
        "foreign_bridges": [],
        "tables": ["ingot_lab_0"],
        "mounts": [ROOT],
        "processes": {Process(10, 1): ("one", "m1")},
        "folders": ["one"],
        "machine_folders": [("one", "m1")],
    }
    return Seen(**{**facts, **changes})  # type: ignore[arg-type]


def decide(view: Seen, labs: dict[str, LabRecord] | None = None) -> Leftovers:
    return leftovers({"one": lab()} if labs is None else labs, view, {("one", "m1"): ROOT})


def test_journal_reads_what_it_wrote(tmp_path: Path) -> None:
    record = lab(holder=Process(3, 4))
    record.machines["m1"].life = Life(Process(5, 6), Process(7, 8))
    record.machines["m1"].binds = [Bind("/a", "/b", read_only=True)]
    journal = Journal(tmp_path)
    journal.save(record)
    assert Journal(tmp_path).load() == {"one": record}
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["lab.json"]
    journal.forget("one")
    journal.forget("one")
    assert journal.load() == {}


def test_journal_that_is_no_lab_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "lab.json").write_text("{")
    with pytest.raises(LabError, match=r"x/lab\.json"):
        Journal(tmp_path).load()


def test_what_the_journal_names_stays() -> None:
    assert decide(seen()) == Leftovers()


def test_without_a_journal_everything_of_ours_goes() -> None:
    assert decide(seen(), {}) == Leftovers(
        processes=(Process(10, 1),),
        mounts=(ROOT,),
        tables=("ingot_lab_0",),
        bridges=("ing-0",),
        machine_folders=(),
        folders=("one",),
    )


def test_machine_the_journal_has_not_got_goes_and_its_lab_stays() -> None:
    other = Process(11, 2)
    found = decide(
        seen(
            processes={Process(10, 1): ("one", "m1"), other: ("one", "m2")},
            mounts=[ROOT, "/s/labs/one/machines/m2/root"],
            machine_folders=[("one", "m1"), ("one", "m2")],
        )
    )
    assert found == Leftovers(
        processes=(other,), mounts=("/s/labs/one/machines/m2/root",), machine_folders=(("one", "m2"),)
    )


def test_other_daemons_networks_stay() -> None:
    view = seen(foreign_bridges=["ing-5"], tables=["ingot_lab_0", "ingot_lab_5"])
    assert decide(view) == Leftovers()


def test_table_without_a_bridge_is_nobodys() -> None:
    assert decide(seen(tables=["ingot_lab_0", "ingot_lab_7"])).tables == ("ingot_lab_7",)


def test_bridge_of_a_former_lab_goes_although_its_number_is_used_again() -> None:
    assert decide(seen(bridges={"ing-0": "former"})).bridges == ("ing-0",)


def test_leftovers_are_told_in_words() -> None:
    words = decide(seen(), {}).words()
    assert "process 10" in words
    assert "bridge ing-0" in words
    assert len(words) == 5


def test_labs_are_abandoned_by_their_holder_or_their_checkout() -> None:
    held, orphan, fine = lab("held", holder=Process(9, 9)), lab("orphan"), lab("fine")
    fine.owner = "/elsewhere"
    assert abandoned([held, fine], {Process(9, 9)}, set()) == ["held"]
    assert abandoned([held, fine], {Process(9, 8)}, set()) == []
    assert abandoned([orphan, fine], set(), {"/here"}) == ["orphan"]
