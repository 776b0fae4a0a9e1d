import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcot_assets.stages import base_models
from promptcot_assets.stages.base_models import from_hub, from_scratch, train_tokenizer
from tests.tiny_models import MARKERS, TinySettings, make_tiny_model, tiny_model, tiny_texts

PROBLEM_MARKER = "\nProblem:"
TOKENIZER = train_tokenizer(tiny_texts(), 320, [*MARKERS, PROBLEM_MARKER])
__all__ = ["tiny_model"]  # a fixture
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@given(st.lists(st.sampled_from([*MARKERS, PROBLEM_MARKER, " 3", "17", "root", " ", "\n", "é"]), max_size=12))
@settings(deadline=None)
def test_markers_are_one_token_each_and_split_a_text_exactly(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = TOKENIZER(text)["input_ids"]
    for marker in (*MARKERS, PROBLEM_MARKER):
        (marker_id,) = TOKENIZER(marker)["input_ids"]
        assert ids.count(marker_id) == text.count(marker)
    at = re.split("(" + "|".join(map(re.escape, (*MARKERS, PROBLEM_MARKER))) + ")", text)
    assert ids == [token for piece in at for token in (TOKENIZER(piece)["input_ids"] if piece else [])]


def test_markers_are_decoded_and_specials_are_not() -> None:
    ids = [*TOKENIZER(MARKERS[0] + " root")["input_ids"], TOKENIZER.eos_token_id, TOKENIZER.pad_token_id]
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == MARKERS[0] + " root"


@pytest.mark.parametrize("text", ["1234567", "3 + 45 = 48", " 100 200", "x2y34"])
def test_every_digit_is_a_token_of_its_own(text: str) -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER(text)["input_ids"])
    assert all(sum(character.isdigit() for character in token) <= 1 for token in tokens)
    assert "".join(filter(str.isdigit, "".join(tokens))) == "".join(filter(str.isdigit, text))


def test_tokenizer_uses_its_whole_vocabulary_and_says_when_it_is_too_small() -> None:
    assert len(train_tokenizer(tiny_texts(), 290, MARKERS)) == 290
    with pytest.raises(ValueError, match="vocab_size 100: bytes, pad, end and 2 markers need at least 260"):
        train_tokenizer(tiny_texts(), 100, MARKERS)


def test_from_scratch_is_byte_identical_for_identical_input(tmp_path: Path) -> None:
    first = hashes(make_tiny_model(tmp_path / "a"))
    code = (
        "import sys; from pathlib import Path; from tests.tiny_models import make_tiny_model;"
        "make_tiny_model(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "b" / "c")], check=True, env=environment)
    assert hashes(tmp_path / "b" / "c") == first
    assert "model.safetensors" in first and "tokenizer.json" in first and "config.json" in first
    other = hashes(make_tiny_model(tmp_path / "d", TinySettings(seed=1)))
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


def test_from_scratch_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    make_tiny_model(tmp_path / "model")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_models_can_share_a_tokenizer(tmp_path: Path) -> None:
    generator = make_tiny_model(tmp_path / "generator")
    student = from_scratch([], TinySettings(hidden_size=64, seed=5), tmp_path / "student", tokenizer=generator)
    assert hashes(student)["tokenizer.json"] == hashes(generator)["tokenizer.json"]
    vocabulary = [json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (generator, student)]
    assert vocabulary[0] == vocabulary[1]


def test_a_model_is_never_written_over_or_left_half_written(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(FileExistsError, match="already holds files"):
        from_scratch(tiny_texts(), TinySettings(), tiny_model)
    with pytest.raises(ValueError, match="hidden_size 50 must be an even multiple of heads 4"):
        from_scratch(tiny_texts(), TinySettings(hidden_size=50), tmp_path / "odd")
    with pytest.raises(RuntimeError, match="in the middle"), base_models.complete_folder(tmp_path / "half") as draft:
        (draft / "config.json").write_text("{}")
        raise RuntimeError("in the middle")
    assert list(tmp_path.iterdir()) == []


def test_from_hub_takes_a_local_folder(tmp_path: Path, tiny_model: Path) -> None:
    assert hashes(from_hub(str(tiny_model), "", tmp_path / "copy")) == hashes(tiny_model)


def test_from_hub_wants_a_pinned_commit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'main' is not a full commit hash"):
        from_hub("Qwen/Qwen3-4B", "main", tmp_path / "model")
    with pytest.raises(ValueError, match="Qwen/Qwen3-4B has no pinned revision; `promptcot pin`"):
        from_hub("Qwen/Qwen3-4B", None, tmp_path / "model")


def test_without_weights_a_folder_is_what_a_tokenizer_needs(tmp_path: Path, tiny_model: Path) -> None:
    whole, bare = hashes(tiny_model), hashes(from_hub(str(tiny_model), None, tmp_path / "bare", weights=False))
    assert {"tokenizer.json", "config.json"} <= bare.keys() == whole.keys() - {"model.safetensors"}


def hub_child(cache: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """from_hub in a process of its own: the hub reads HF_HUB_OFFLINE and HF_HOME once, at import."""
    code = "import sys; from pathlib import Path; from promptcot_assets.stages.base_models import from_hub;"
    code += f"from_hub('some/model', '{COMMIT}', Path(sys.argv[1]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    return subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, env=environment)


def test_from_hub_offline_says_what_to_set(tmp_path: Path) -> None:
    child = hub_child(tmp_path / "empty", tmp_path / "model")
    assert child.returncode != 0
    message = child.stderr.strip().splitlines()[-1]
    for word in ("FileNotFoundError", "some/model@0123456789ab", "HF_HUB_OFFLINE", "HF_HOME", "local folder"):
        assert word in message
    assert not (tmp_path / "model").exists()


def test_from_hub_reads_the_cache_offline_and_shares_its_bytes(tmp_path: Path, tiny_model: Path) -> None:
    snapshot = tmp_path / "hf" / "hub" / "models--some--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in tiny_model.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    child = hub_child(tmp_path / "hf", tmp_path / "model")
    assert child.returncode == 0, child.stderr
    assert hashes(tmp_path / "model") == hashes(tiny_model)
    assert (tmp_path / "model" / "model.safetensors").samefile(snapshot / "model.safetensors")
