"""Rollouts of an online training as files: whole or not there, of each step once."""

from pathlib import Path
from typing import Any

from training.rollouts import Shards, ended, forget_from, read


def rows(*places: int, text: str = "a") -> list[dict[str, Any]]:
    return [
        {"place": place, "attempt": place % 2, "prompt": "p", "completion": f"{text}{place}", "tokens": 1,
         "finish_reason": "stop", "reward": None, "judged": "{}", "learned": True}
        for place in places
    ]  # fmt: skip


def test_rollouts_of_several_processes_and_generations_are_in_the_order_in_which_they_were_sampled(
    tmp_path: Path,
) -> None:
    second, first = Shards(tmp_path, 1), Shards(tmp_path, 0)
    for shards, places in ((second, (2, 3)), (first, (0, 1))):
        for step in (0, 0, 1):
            shards.write(step, rows(*places))
    found = list(read(tmp_path))
    assert [(row["step"], row["part"], row["place"]) for row in found] == [
        (step, part, place) for step, part in ((0, 0), (0, 1), (1, 0)) for place in range(4)
    ]
    assert found[0]["judged"] == {} and found[0]["reward"] is None


def test_a_step_that_is_done_again_takes_the_place_of_the_first_time(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    for step in range(4):
        shards.write(step, rows(0))
    (tmp_path / ".step_00000004_0000_0000.parquet").write_bytes(b"half")
    forget_from(tmp_path, 2)
    assert [row["step"] for row in read(tmp_path)] == [0, 1] and len(list(tmp_path.iterdir())) == 2
    again = Shards(tmp_path)
    again.write(2, rows(0, text="b"))
    again.write(2, rows(0, text="c"))
    assert [(row["step"], row["part"], row["completion"]) for row in read(tmp_path)][2:] == [
        (2, 0, "b0"), (2, 1, "c0"),
    ]  # fmt: skip


def test_without_a_folder_nothing_is_written_and_nothing_read(tmp_path: Path) -> None:
    Shards(None).write(0, rows(0))
    forget_from(None, 0)
    forget_from(tmp_path / "none", 0)
    assert list(read(tmp_path / "none")) == []


def test_what_ends_a_completion() -> None:
    assert [ended(ids, {7, 8}) for ids in ([1, 7], [8], [7, 1], [])] == ["stop", "stop", "length", "length"]
