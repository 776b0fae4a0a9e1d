"""A tiny Llama with a byte-level tokenizer, as a Hugging Face folder and as the GGUF file of it.

The file is as llama.cpp's own converter would write it: rotary halves interleaved, weights by GGUF's names, tokenizer
and chat template in the metadata.
"""

from pathlib import Path
from typing import Any

import numpy as np

from promptcot_assets.stages.base_models import train_tokenizer
from tests.tiny_models import MARKERS, tiny_texts

TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '>' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.layers": "blk",
}  # fmt: skip


def tiny_llama(folder: Path) -> Path:
    """Untrained; grouped-query attention (4 heads over 2) and a tied output layer, as small models have them."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(tiny_texts(), 320, MARKERS)
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, file: Path, architecture: str = "llama", leave_out: str = "") -> Path:
    """leave_out: a weight that the file then lacks, by GGUF's name."""
    from gguf import GGUFWriter, TokenType
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config, writer = model.config, GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if at in special else TokenType.NORMAL for at in range(len(tokens))])
    writer.add_token_merges(_merges(tokenizer))
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_unk_token_id):
        add(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        named = _named(name)
        if named and named != leave_out:
            writer.add_tensor(named, _interleaved(named, weight.float().numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _merges(tokenizer: Any) -> list[str]:
    import json

    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [one if isinstance(one, str) else " ".join(one) for one in merges]


def _named(name: str) -> str | None:
    if name == "lm_head.weight":  # tied
        return None
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _interleaved(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """Queries and keys with the two halves of every head interleaved, as GGUF has them."""
    for which, heads in (("attn_q", config.num_attention_heads), ("attn_k", config.num_key_value_heads)):
        if which in name:
            rows, columns = weight.shape
            return np.ascontiguousarray(
                weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
            )
    return weight
