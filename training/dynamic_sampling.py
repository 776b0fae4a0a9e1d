"""Groups whose rewards are all alike teach nothing: others are sampled in their place (DAPO, arXiv 2503.14476, 3.2).

A group's completions that all pass, or all fail, have no advantage. In `tries` further generations of the same step,
with the same weights, other prompts are drawn for such groups; a group that stays alike after the last is trained on
as it is, which moves nothing. Which prompts are drawn follows from seed, step and try. One process only.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def alike(rewards: Sequence[float], group: int) -> list[int]:
    """The groups of `group` neighbours, by number, whose rewards do not differ."""
    starts = range(0, len(rewards), group)
    return [at for at, start in enumerate(starts) if len(set(rewards[start : start + group])) == 1]


def other_prompts(rows: int, taken: Sequence[int], count: int, key: str) -> list[int]:
    """At most `count` of the numbers below `rows` that are not `taken`, drawn by `key`."""
    left = sorted(set(range(rows)) - set(taken))
    return random.Random(key).sample(left, min(count, len(left)))


def replaced(batch: Mapping[str, Any], other: Mapping[str, Any], places: Mapping[int, int], pad: int) -> dict[str, Any]:
    """`batch` with the rows `places[at]` of `other` in the place of its rows `at`, both padded to one width.

    Prompts are padded on their left, all else on its right; ids with `pad`, all else with 0.
    """
    import torch

    changed = dict(batch)
    into, out_of = (torch.tensor(list(side), dtype=torch.long) for side in (places.keys(), places.values()))
    for name, value in batch.items():
        if name == "num_items_in_batch":
            continue
        if not isinstance(value, torch.Tensor) or value.shape[0] != len(batch["prompt_ids"]):
            raise ValueError(f"dynamic sampling cannot replace rows of {name!r}")
        theirs = other[name]
        if value.dim() > 1:
            width = max(value.shape[1], theirs.shape[1])
            filled = pad if name.endswith("_ids") else 0
            value, theirs = (_wide(one, width, filled, name.startswith("prompt")) for one in (value, theirs))
        value = value.clone()
        value[into.to(value.device)] = theirs[out_of.to(value.device)]
        changed[name] = value
    changed["num_items_in_batch"] = changed["completion_mask"].sum()
    return changed


def _wide(value: Any, width: int, filled: int, on_the_left: bool) -> Any:
    from torch.nn.functional import pad

    missing = width - value.shape[1]
    return pad(value, (missing, 0) if on_the_left else (0, missing), value=filled) if missing else value


def resampling(trainer: type, tries: int, rewards: Callable[[], Sequence[float]], settled: Callable[..., None]) -> type:
    """`trainer` (TRL's GRPOTrainer) that replaces such groups.

    rewards: those of the last generation; settled: told, once for each step's generation, which groups of each of its
    parts are trained on.
    """

    class Resampling(trainer):
        _place_of: dict[str, int] | None = None

        def _places(self) -> dict[str, int]:
            """prompt -> its number in the data, read once."""
            if self._place_of is None:
                self._place_of = {prompt: at for at, prompt in enumerate(self.train_dataset["prompt"])}
            return self._place_of

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if not self.model.training:
                return batch
            group, rows = self.num_generations, self.train_dataset
            void = alike(rewards(), group)
            learned = [set(range(math.ceil(len(inputs) / group)))]  # a process may hold a part of a group
            taken = [self._places()[one["prompt"]] for one in inputs] if void and tries else []
            for attempt in range(tries):
                key = f"{self.args.seed} {self.state.global_step} {attempt}"
                drawn = other_prompts(len(rows), taken, len(void), key) if void else []
                if not drawn:
                    break
                taken += drawn
                spare = [dict(rows[at]) for at in drawn for _ in range(group)]
                other = super()._generate_and_score_completions(spare)
                still = alike(rewards(), group)
                good = [at for at in range(len(drawn)) if at not in still]
                swapped = dict(zip(void, good, strict=False))
                learned.append(set(swapped.values()))
                learned[0] -= swapped.keys()
                void = void[len(swapped) :]
                if swapped:
                    places = {old * group + at: new * group + at for old, new in swapped.items() for at in range(group)}
                    batch = replaced(batch, other, places, self._tokenizer.pad_token_id)
            settled(learned)
            return batch

    return Resampling
