"""Which groups teach nothing, which prompts take their place, and what a batch looks like afterwards."""

import torch

from training.dynamic_sampling import alike, other_prompts, replaced


def test_groups_of_one_reward_teach_nothing() -> None:
    assert alike([1, 1, 0, 1, 0, 0], 2) == [0, 2]
    assert alike([1, 0, 0, 1], 2) == []


def test_other_prompts_are_new_and_follow_from_the_key() -> None:
    drawn = other_prompts(10, [0, 1, 2], 3, "seed 1")
    assert drawn == other_prompts(10, [0, 1, 2], 3, "seed 1") and len(set(drawn)) == 3 and min(drawn) > 2
    assert len({tuple(other_prompts(10, [0, 1, 2], 3, f"seed {n}")) for n in range(20)}) > 1
    assert other_prompts(3, [0, 1], 5, "k") == [2] and other_prompts(2, [0, 1], 5, "k") == []


def batch(prompts: list[list[int]], completions: list[list[int]], advantages: list[float]) -> dict[str, torch.Tensor]:
    return {
        "prompt_ids": torch.tensor(prompts),
        "prompt_mask": (torch.tensor(prompts) > 0).long(),
        "completion_ids": torch.tensor(completions),
        "completion_mask": (torch.tensor(completions) > 0).long(),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": torch.tensor(99),
    }


def test_rows_are_replaced_and_padded_to_one_width() -> None:
    before = batch([[5], [6]], [[1, 2], [3, 0]], [0.0, 0.0])
    other = batch([[0, 7], [8, 9]], [[4, 0, 0], [4, 4, 4]], [1.0, -1.0])
    after = replaced(before, other, {0: 1}, pad=0)
    assert after["prompt_ids"].tolist() == [[8, 9], [0, 6]]  # prompts end where completions begin
    assert after["completion_ids"].tolist() == [[4, 4, 4], [3, 0, 0]]
    assert after["completion_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert after["advantages"].tolist() == [-1.0, 0.0] and after["num_items_in_batch"] == 4
    assert before["prompt_ids"].tolist() == [[5], [6]]
