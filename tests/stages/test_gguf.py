import hashlib
from pathlib import Path

import pytest

from promptcot_assets.settings.profile import BaseModel
from promptcot_assets.stages.base_models import fetched
from promptcot_assets.stages.gguf import GgufError, from_gguf, sha256_of
from tests.tiny_gguf import TEMPLATE, tiny_llama, write_gguf
from tests.tiny_models import tiny_texts

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("gguf") / "original")


@pytest.fixture(scope="module")
def file(original: Path) -> Path:
    return write_gguf(original, original.parent / "tiny.F32.gguf")


def test_the_folder_computes_what_the_original_computes(original: Path, file: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = from_gguf(file, sha256_of(file), tmp_path / "model")
    before, after = AutoTokenizer.from_pretrained(original), AutoTokenizer.from_pretrained(folder)
    texts = [text for text in tiny_texts(20) if text]
    assert [after(text)["input_ids"] for text in texts] == [before(text)["input_ids"] for text in texts]
    models = [AutoModelForCausalLM.from_pretrained(one).eval() for one in (original, folder)]
    ids = torch.tensor([before(texts[0] + texts[1])["input_ids"]])
    with torch.inference_mode():
        first, second = (model(input_ids=ids).logits for model in models)
    assert first.std() > 0.1
    assert torch.allclose(first, second, atol=1e-4)  # the rotary permutation undone, the head still the embedding
    head, embedding = (one.weight for one in (models[1].get_output_embeddings(), models[1].get_input_embeddings()))
    assert head is embedding
    assert models[1].config.rope_parameters["rope_theta"] == 5000.0


def test_tokenizer_template_and_end_token_are_intact(original: Path, file: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    folder = from_gguf(file, sha256_of(file), tmp_path / "model")
    before, after = AutoTokenizer.from_pretrained(original), AutoTokenizer.from_pretrained(folder)
    assert after.chat_template == TEMPLATE
    assert (after.eos_token, after.pad_token) == (before.eos_token, before.pad_token)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == before.eos_token_id
    turn = [{"role": "user", "content": "find A"}]
    written = after.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    assert written == "<user>find A\n<assistant>"


def test_the_same_file_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    folders = [from_gguf(file, sha256_of(file), tmp_path / name) for name in ("a", "b")]
    hashes = [
        {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in sorted(folder.iterdir())}
        for folder in folders
    ]
    assert hashes[0] == hashes[1]
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= hashes[0].keys()


def test_reading_prints_nothing(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from_gguf(file, sha256_of(file), tmp_path / "model")
    assert capfd.readouterr() == ("", "")


def test_without_weights_it_is_tokenizer_and_configuration(file: Path, tmp_path: Path) -> None:
    folder = from_gguf(file, sha256_of(file), tmp_path / "model", weights=False)
    names = {one.name for one in folder.iterdir()}
    assert {"config.json", "tokenizer.json"} <= names
    assert not any(name.endswith(".safetensors") for name in names)


@pytest.mark.parametrize(
    ("name", "number", "says"),
    [("block_count", 1 << 31, "says that it has 2147483648 layers, and its weights have 2"),
     ("block_count", 1, "says that it has 1 layers, and its weights have 2"),
     ("embedding_length", 1 << 31, "says that it has 2147483648 numbers to a token, and its weights have 64")],
)  # fmt: skip
def test_a_model_other_than_that_of_the_weights_is_not_made(
    file: Path, tmp_path: Path, name: str, number: int, says: str
) -> None:
    """transformers would make it: two thousand million layers, or one with the other layer's weights left out."""
    data, key = file.read_bytes(), f"llama.{name}".encode()
    at = data.index(key) + len(key) + 4  # behind the kind of the value
    lying = tmp_path / "lying.gguf"
    lying.write_bytes(data[:at] + number.to_bytes(4, "little") + data[at + 4 :])
    for weights in (True, False):
        with pytest.raises(GgufError, match=says):
            from_gguf(lying, sha256_of(lying), tmp_path / "model", weights)
    assert not (tmp_path / "model").exists()


def test_a_file_that_cannot_be_used_is_one_sentence(original: Path, file: Path, tmp_path: Path) -> None:
    cases = {}
    cases["there is no such GGUF file"] = (tmp_path / "none.gguf", "0" * 64)
    cases["the file is damaged or another one"] = (file, "0" * 64)
    text = tmp_path / "page.gguf"
    text.write_text("<html>not found</html>")
    cases["not a GGUF file"] = (text, sha256_of(text))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    cases["transformers cannot read this GGUF file"] = (cut, sha256_of(cut))
    other = write_gguf(original, tmp_path / "other.gguf", architecture="clip")
    cases["clip is not supported"] = (other, sha256_of(other))
    lacking = write_gguf(original, tmp_path / "lacking.gguf", leave_out="blk.1.ffn_up.weight")
    cases["lacks 1 of the model's weights, model.layers.1.mlp.up_proj.weight among them"] = (
        lacking,
        sha256_of(lacking),
    )
    for says, (path, sha256) in cases.items():
        with pytest.raises(GgufError) as error:
            from_gguf(path, sha256, tmp_path / "model")
        assert says in str(error.value)
        assert str(path) in str(error.value)
    assert not (tmp_path / "model").exists()


def test_a_profile_names_a_file_and_its_hash_and_depends_on_the_hash_only(file: Path, tmp_path: Path) -> None:
    sha256 = sha256_of(file)
    model = BaseModel(gguf=str(file), sha256=sha256)
    moved = BaseModel(gguf="elsewhere/tiny.gguf", sha256=sha256)
    assert model.canonical() == moved.canonical() != BaseModel(gguf=str(file), sha256="0" * 64).canonical()
    assert sha256 in model.canonical()
    assert (fetched(model, tmp_path / "model") / "config.json").is_file()
    assert model.origin == f"gguf:tiny.F32.gguf@{sha256[:12]}"


def test_what_hub_models_record_is_what_it_was() -> None:
    assert BaseModel(hub_id="a/b", revision="c").canonical() == '{"hub_id":"a/b","revision":"c","scratch":null}'


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gguf": "a.gguf"}, "gguf and sha256 belong together"),
        ({"hub_id": "a/b", "sha256": "0" * 64}, "gguf and sha256 belong together"),
        ({"gguf": "a.gguf", "sha256": "0" * 64, "hub_id": "a/b"}, "set exactly one of"),
        ({"gguf": "a.gguf", "sha256": "abc"}, "sha256"),
    ],
)
def test_what_a_profile_cannot_say(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BaseModel(**given)
