"""The keys that a model's files may have, and what each may hold: the lists behind `vlmdesc.embeddings.model_folder`.

What open_clip takes is read from its own classes; what transformers takes is a list, as it takes anything.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import timm
from open_clip.coca_model import CoCa, MultimodalCfg
from open_clip.hf_configs import arch_dict
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.transform import PreprocessCfg

Check = Callable[[Any], bool]

# A value of these that is refused would lead to code.
CODE = frozenset({"auto_map", "trust_remote_code", "tokenizer_class", "_attn_implementation"})

TOKENIZERS = frozenset(
    """Albert Bert CLIP Camembert DebertaV2 DistilBert Electra GPT2 Gemma M2M100 MBart MPNet MT5 Nllb PreTrained Qwen2
    Roberta Siglip Siglip2 T5 XLMRoberta""".split()
)
TOWERS = frozenset(arch_dict)  # the text towers that open_clip can put to use
KINDS = TOWERS | frozenset(
    """albert camembert clip clip_text_model deberta-v2 distilbert electra gemma gemma2 gemma3_text gpt2 mbart mpnet
    nllb-moe qwen2 siglip siglip_text_model siglip2 siglip2_text_model t5 umt5""".split()
)
# Beside the parameters of its own class, what transformers has written into config.json over the years, and timm.
CONFIG_KEYS = frozenset(
    """_commit_hash _name_or_path name_or_path transformers_version architectures model_type tokenizer_class dtype
    torch_dtype _attn_implementation _attn_implementation_autoset output_hidden_states output_attentions return_dict
    torchscript use_bfloat16 tf_legacy_loss pruned_heads tie_word_embeddings chunk_size_feed_forward is_encoder_decoder
    is_decoder cross_attention_hidden_size add_cross_attention tie_encoder_decoder use_cache gradient_checkpointing
    max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p
    typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens finetuning_task
    id2label label2id num_labels _num_labels prefix bos_token_id pad_token_id eos_token_id sep_token_id
    decoder_start_token_id task_specific_params problem_type output_past directionality pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type position_embedding_type
    classifier_dropout type_vocab_size embedding_size initializer_factor initializer_range layer_norm_eps
    num_hidden_layers text_config_dict vision_config_dict rope_theta rope_scaling hidden_activation head_dim n_ctx
    n_positions n_special summary_activation summary_first_dropout summary_last_dropout summary_proj_to_labels
    summary_type summary_use_proj sinusoidal_pos_embds tie_weights_ net_structure_type gap_size num_memory_blocks
    down_scale_factor layers_to_keep inner_group_num add_bias_logits add_final_layer_norm normalize_before
    normalize_embedding static_position_embeddings classif_dropout extra_pos_embeddings architecture
    dense_act_fn is_gated_act scale_decoder_outputs _sliding_window_pattern num_classes num_features global_pool
    pretrained_cfg model_args label_names label_descriptions do_pooling pooler_hidden_size""".split()
)
TOKENIZER_KEYS = frozenset(
    """
    __type add_bos_token add_eos_token add_prefix_space added_tokens_decoder additional_special_tokens backend
    bos_token chat_template clean_up_tokenization_spaces cls_token do_basic_tokenize do_lower_case eos_token errors
    extra_ids extra_special_tokens from_slow image_processor_type is_local keep_accents language_codes legacy
    legacy_behaviour local_files_only lowercase mask_token max_length merges_file model_input_names model_max_length
    model_specific_special_tokens name_or_path never_split num_madeup_words pad_to_multiple_of pad_token
    pad_token_type_id padding padding_side processor_class remove_space return_tensors sep_token sp_model_kwargs
    spaces_between_special_tokens special_tokens_map_file split_by_punct split_special_tokens spm_file src_lang
    stride strip_accents tgt_lang tokenize_chinese_chars tokenizer_class tokenizer_file trim_offsets truncation
    truncation_side truncation_strategy unk_id unk_token use_default_system_prompt use_fast vocab_file vocab_size
    wordpieces_prefix""".split()
)
TOKENIZER_KWARGS = frozenset(
    """add_bos_token add_eos_token add_prefix_space bos_token clean cls_token do_lower_case eos_token language legacy
    lowercase mask_token model_max_length pad_token padding_side sep_token src_lang strip_accents strip_sep_token
    tgt_lang trust_remote_code truncation_side unk_token use_fast""".split()
)


def no(value: object) -> bool:
    return value is False or value is None


def anything(value: object) -> bool:
    return True


def a_dict(value: object) -> bool:
    return value is None or isinstance(value, dict)


def plain(value: object) -> bool:
    """A truth value, a finite number, a word, nothing, or a short list of numbers."""
    if isinstance(value, list):
        return len(value) <= 16 and all(isinstance(x, int | float) and plain(x) for x in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int) or a_word(value)


def a_word(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1000


def tokens(value: object, depth: int = 3) -> bool:
    """Plain, or tokens as transformers writes them: words and dicts of plain values, in lists and dicts."""
    if not isinstance(value, list | dict):
        return plain(value)
    return depth > 0 and all(tokens(x, depth - 1) for x in (value.values() if isinstance(value, dict) else value))


def _file_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and Path(value).name == value)


def _timm(value: object) -> bool:
    """One of timm's own architectures, not a name that leads to a hub or folder."""
    return not value or (isinstance(value, str) and timm.is_model(value))


def _tokenizer(value: object) -> bool:
    name = str(value).removesuffix("Fast")
    return value is None or name == "TokenizersBackend" or name.removesuffix("Tokenizer") in TOKENIZERS


def _dtype(value: object) -> bool:
    return value is None or re.fullmatch(r"(torch\.)?b?float\d+", str(value)) is not None


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


def parameters(kind: Any) -> set[str]:
    """What the constructor of a class takes."""
    return set(inspect.signature(kind).parameters)


MODEL = (parameters(CLIP) | parameters(CustomTextCLIP) | parameters(CoCa) | {"custom_text"}) - {"cast_dtype"}
PARTS = {
    "vision_cfg": _names(CLIPVisionCfg),
    "text_cfg": _names(CLIPTextCfg),
    "multimodal_cfg": _names(MultimodalCfg),
}
INNER = {
    "act_kwargs": frozenset({"approximate"}),
    "norm_kwargs": frozenset({"eps", "elementwise_affine", "bias"}),
    "tokenizer_kwargs": TOKENIZER_KWARGS,
}
PREPROCESS = _names(PreprocessCfg)
MODEL_VALUES: dict[str, Check] = {
    **dict.fromkeys((*PARTS, *INNER), a_dict),
    **dict.fromkeys(("hf_model_name", "hf_tokenizer_name"), lambda value: value is None or a_word(value)),
    "timm_model_name": _timm,
    "trust_remote_code": no,
}
CONFIG_VALUES: dict[str, Check] = {
    "tokenizer_class": _tokenizer,
    "_attn_implementation": lambda value: value in (None, "eager", "sdpa"),
    "dtype": _dtype,
    "torch_dtype": _dtype,
}
TOKENIZER_VALUES: dict[str, Check] = {
    "tokenizer_class": _tokenizer,
    "chat_template": anything,  # of conversations: never filled in
    "sp_model_kwargs": lambda value: not value or set(value) <= {"enable_sampling", "nbest_size", "alpha"},
    **dict.fromkeys(("vocab_file", "merges_file", "spm_file"), _file_name),
}
