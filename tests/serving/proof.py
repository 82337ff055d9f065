"""vLLM says what our own model says, and holds what the pattern keeps: `make serving-test`, which has vLLM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from longgen.layout import Layout, make_layout
from longgen.modeling import convert_checkpoint
from longgen.pattern import SparsePattern
from longgen.serving.blocks import most_blocks_held
from longgen.serving.vllm import SERVED_FAMILIES
from tests.serving import engine as small  # sets the environment before vLLM is imported

import torch  # isort: skip
import vllm
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from vllm import LLM, EngineArgs, SamplingParams

LENGTHS = [1, 5, 31, 32, 33, 64, 150, 300]
NEW = 70  # goes over two ends of blocks at least
NOISE = 2e-4  # of log probabilities in float32

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / "artifacts/smollm2/SmolLM2-135M-Instruct"

FP8_CACHE = {
    "quant_method": "compressed-tensors",
    "config_groups": {},
    "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True},
}

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[object, Path] = {}

    def make(family: str = "llama", pattern: SparsePattern = small.PATTERN, layout: Layout | None = None) -> Path:
        key = (family, pattern, layout)
        if key not in made:
            made[key] = small.make_hybrid(tmp_path_factory.mktemp("models") / "model", family, pattern, layout)
        return made[key]

    return make


def assert_same(answers: list[small.Said], expected: list[small.Said], noise: float = NOISE) -> None:
    assert [answer.tokens for answer in answers] == [answer.tokens for answer in expected]
    for answer, known in zip(answers, expected, strict=True):
        assert answer.logprobs == pytest.approx(known.logprobs, abs=noise)


@pytest.mark.parametrize("pattern", [small.PATTERN, small.STRIDE], ids=["sink", "stride"])
@pytest.mark.parametrize("family", SERVED_FAMILIES)
def test_eight_requests_at_once_get_what_generate_says(family, pattern, hybrid):
    folder, prompts = hybrid(family, pattern), small.prompts_of(LENGTHS)
    with small.engine(folder) as llm:
        watch = small.Watch(llm)  # blocks held at every step, and freed ones poisoned
        answers = small.by_engine(llm, prompts, NEW)
    assert watch.most_running == len(prompts) and watch.steps > NEW and watch.reused > 0
    assert_same(answers, small.by_generate(folder, prompts, NEW))


def test_what_a_query_sees_decides_what_it_says(hybrid):
    """The other tests bite: full attention says something else, to every prompt longer than the window."""
    prompts = small.prompts_of([150, 300])
    full = make_layout(small.LAYERS, "all")
    for ours, theirs in zip(
        *(small.by_generate(hybrid(layout=layout), prompts, NEW) for layout in (None, full)), strict=True
    ):
        assert ours.tokens[:8] != theirs.tokens[:8]


@pytest.mark.parametrize(
    "pattern",
    [
        SparsePattern(block_size=64, sink_blocks=0, local_blocks=1),
        SparsePattern(block_size=64, sink_blocks=2, local_blocks=3, stride=2),
    ],
    ids=["window", "dense-stride"],
)
def test_blocks_of_the_engine_may_be_smaller_than_those_of_the_pattern(pattern, hybrid):
    folder, prompts = hybrid(pattern=pattern), small.prompts_of(LENGTHS)
    with small.engine(folder, block_size=32) as llm:
        watch = small.Watch(llm)
        answers = small.by_engine(llm, prompts, NEW)
    assert watch.most_running == len(prompts)
    assert_same(answers, small.by_generate(folder, prompts, NEW))


@pytest.mark.parametrize("layout", ["none", "ends", "interleaved"])
def test_any_layout_by_layer(layout, hybrid):
    chosen = make_layout(small.LAYERS, "none") if layout == "none" else make_layout(small.LAYERS, "1/2", layout)
    folder, prompts = hybrid(layout=chosen), small.prompts_of([1, 100, 200])
    with small.engine(folder) as llm:
        small.Watch(llm)
        answers = small.by_engine(llm, prompts, NEW)
    assert_same(answers, small.by_generate(folder, prompts, NEW))


def test_preempted_requests_go_on_as_if_nothing_had_been(hybrid):
    folder, prompts = hybrid(), small.prompts_of([150, 140, 130, 120, 110, 100])
    with small.engine(folder, num_gpu_blocks_override=62) as llm:
        watch = small.Watch(llm)
        answers = small.by_engine(llm, prompts, 100)
    assert watch.preemptions > 0
    assert_same(answers, small.by_generate(folder, prompts, 100))


@pytest.mark.parametrize("pattern", [small.PATTERN, small.STRIDE], ids=["sink", "stride"])
def test_cached_prefixes_are_used_and_change_nothing(pattern, hybrid):
    folder = hybrid(pattern=pattern)
    (shared,) = small.prompts_of([290])
    prompts = [shared[:length] + tail for length in (290, 200, 96, 40) for tail in small.prompts_of([1, 30], length)]
    expected = small.by_generate(folder, prompts, 20)
    with small.engine(folder, enable_prefix_caching=True) as llm:
        watch = small.Watch(llm, poison=False)  # what is free is cached
        small.by_engine(llm, [shared], 1)
        before = watch.cached_tokens
        assert_same(small.by_engine(llm, prompts, 20), expected)
        assert watch.cached_tokens - before >= 2 * (288 + 192 + 96 + 32) - 8 * 32
        assert_same(small.by_engine(llm, prompts[::-1], 20), expected[::-1])


def test_cached_prefixes_that_were_evicted_are_computed_again(hybrid):
    folder, prompts = hybrid(), small.prompts_of([200, 190, 180, 170, 160, 150])
    expected = small.by_generate(folder, prompts, 40)
    with small.engine(folder, enable_prefix_caching=True, num_gpu_blocks_override=60) as llm:
        watch = small.Watch(llm, poison=False)
        for _ in range(3):
            assert_same(small.by_engine(llm, prompts, 40), expected)
    assert watch.cached_tokens < sum(len(prompt) // 32 * 32 for prompt in prompts), "nothing was evicted"


def test_with_all_layers_full_it_is_vllms_own_llama(hybrid, tmp_path):
    folder, prompts = hybrid(layout=make_layout(small.LAYERS, "all")), small.prompts_of(LENGTHS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    values = {key: value for key, value in model.config.to_dict().items() if key not in ("longgen", "model_type")}
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **values)).to(torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(tmp_path)
    answers = []
    for each in (folder, tmp_path):
        with small.engine(each) as llm:
            answers.append(small.by_engine(llm, prompts, NEW))
    assert_same(answers[0], answers[1], noise=0)


def test_memory_of_a_request_is_what_the_pattern_keeps(hybrid):
    """The engine says how many requests of the greatest length fit: full attention in the same memory has fewer."""
    counts = {}
    for name, layout in (("hybrid", None), ("full", make_layout(small.LAYERS, "all"))):
        with small.engine(hybrid(layout=layout), num_gpu_blocks_override=None, kv_cache_memory_bytes=2**24) as llm:
            counts[name] = llm.llm_engine.vllm_config.cache_config.kv_cache_max_concurrency
    pages = small.LONGEST // 32
    sparse = most_blocks_held(small.PATTERN, 32, small.LONGEST, small.CHUNK)
    assert counts["hybrid"] / counts["full"] == pytest.approx(3 * pages / (pages + 2 * sparse), rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 64}, "block size is 64, the pattern's is 32"),
        ({"block_size": 48}, "block size is 48, the pattern's is 32"),
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size is 2: allowed is 1"),
        ({"pipeline_parallel_size": 2}, "--pipeline-parallel-size is 2: allowed is 1"),
        ({"prefill_context_parallel_size": 2}, "--prefill-context-parallel-size is 2: allowed is 1"),
        ({"enable_dbo": True}, "--enable-dbo is True: allowed is not to give it"),
        ({"ubatch_size": 2}, "--ubatch-size is 2: allowed is not to give it"),
        ({"kv_offloading_size": 1.0}, "--kv-offloading-size is 1.0: allowed is not to give it"),
        ({"kv_cache_dtype": "fp8"}, "--kv-cache-dtype is 'fp8': allowed is one of auto"),
        ({"kv_cache_dtype": "bfloat16"}, "--kv-cache-dtype is 'bfloat16': allowed is auto, or the model's.*float32"),
        (
            {"hf_overrides": {"quantization_config": FP8_CACHE}},
            "config.quantization_config.kv_cache_scheme is .*: allowed is none",
        ),
        ({"hf_overrides": {"sliding_window": 64}}, "config.sliding_window is 64: allowed is none"),
        ({"hf_overrides": {"is_causal": False}}, "config.is_causal is False: allowed is true"),
        ({"hf_overrides": {"architectures": ["LlamaForCausalLM"]}}, "'LlamaForCausalLM'.* would run full attention"),
        ({"hf_overrides": {"architectures": ["LongGenQwen2ForCausalLM"]}}, "allowed is LongGenLlamaForCausalLM"),
        ({"hf_overrides": {"architectures": ["LongGenLlamaModel"]}}, "allowed is LongGenLlamaForCausalLM"),
        ({"max_model_len": 2048}, "max_model_len"),
        ({"disable_hybrid_kv_cache_manager": True}, "--disable-hybrid-kv-cache-manager is True"),
        (
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}},
            "--speculative-config is 'ngram': allowed is none",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_a_hybrid_cannot_follow_are_refused(options, message, hybrid):
    with pytest.raises(ValueError, match=message):
        EngineArgs(str(hybrid()), skip_tokenizer_init=True, dtype="float32", **options).create_engine_config()


def test_a_pattern_whose_blocks_no_kernel_has_is_refused_with_what_to_do(tmp_path):
    folder = small.make_hybrid(tmp_path / "model", pattern=SparsePattern(block_size=16, sink_blocks=1, local_blocks=2))
    message = "block_size is 16: no divisor of it is among the block sizes of CPU_ATTN, multiples of 32; allowed is"
    with pytest.raises(ValueError, match=message), small.engine(folder):
        pass


def test_layouts_by_head_staggered_heads_and_other_families_are_refused(tmp_path):
    by_head = make_layout(small.LAYERS, "1/2", "heads", 2)
    staggered = SparsePattern(block_size=32, sink_blocks=1, local_blocks=2, stride=4, staggered=True)
    cases = (
        ("llama", small.PATTERN, by_head, "config.longgen.layout is 'by KV head'"),
        ("llama", staggered, None, "config.longgen.pattern.staggered is True"),
        ("olmo2", small.PATTERN, None, "model_type is 'longgen_olmo2': allowed is a hybrid of llama, mistral"),
    )
    for number, (family, pattern, layout, message) in enumerate(cases):
        folder = small.make_hybrid(tmp_path / str(number), family, pattern, layout)
        with pytest.raises(ValueError, match=message):
            EngineArgs(str(folder), skip_tokenizer_init=True).create_engine_config()


def test_its_length_is_that_of_the_extended_model(tmp_path):
    """vLLM multiplies the length by the factor of linear interpolation, which is in ours already."""
    folder = small.make_hybrid(tmp_path / "model", rope="linear", max_length=4 * small.LONGEST)
    made = EngineArgs(str(folder), skip_tokenizer_init=True).create_engine_config()
    assert made.model_config.max_model_len == 4 * small.LONGEST
    with pytest.raises(ValueError, match="--max-model-len is 8192: allowed is up to max_position_embeddings 4096"):
        EngineArgs(str(folder), skip_tokenizer_init=True, max_model_len=8192).create_engine_config()


def test_on_a_gpu_attention_is_left_out_of_graphs(hybrid, monkeypatch):
    from vllm.config import CUDAGraphMode

    from longgen.serving.vllm import checks

    made = EngineArgs(str(hybrid()), skip_tokenizer_init=True).create_engine_config()
    made.compilation_config.cudagraph_mode = CUDAGraphMode.FULL_AND_PIECEWISE
    monkeypatch.setattr(checks, "current_platform", SimpleNamespace(is_cpu=lambda: False))
    checks.HybridChecks.verify_and_update_config(made)
    assert made.compilation_config.cudagraph_mode == CUDAGraphMode.PIECEWISE


@pytest.mark.parametrize("rope", [{"rope": "yarn", "max_length": 2048}, {"rope_theta": 5e5, "max_length": 2048}])
def test_extended_rope_is_the_same_in_both(rope, tmp_path):
    folder, prompts = small.make_hybrid(tmp_path / "model", **rope), small.prompts_of([20, 1200])
    with small.engine(folder, max_num_batched_tokens=700) as llm:
        answers = small.by_engine(llm, prompts, 20)
    assert_same(answers, small.by_generate(folder, prompts, 20))


def test_without_the_plugin_vllm_refuses_a_hybrid(hybrid):
    code = (
        f"from vllm import EngineArgs; EngineArgs({str(hybrid())!r}, skip_tokenizer_init=True).create_engine_config()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"VLLM_PLUGINS": ""}, capture_output=True, text=True, check=False
    )
    assert run.returncode and "longgen_llama" in run.stderr


def test_another_version_of_vllm_gets_no_hybrids(monkeypatch, caplog):
    from longgen.serving import vllm as plugin

    monkeypatch.setattr(vllm, "__version__", "0.33.0")
    monkeypatch.setattr(vllm.ModelRegistry, "register_model", lambda *_: pytest.fail("registered"))
    plugin.register()
    assert "vLLM is version 0.33.0: LongGen hybrids cannot be served, allowed is vLLM 0.32" in caplog.text


def test_benchmarks_are_answered_as_by_transformers(hybrid, tmp_path, monkeypatch):
    from longgen.evaluation.greedy import until_end
    from longgen.evaluation.runs.model import greedy, load_model
    from longgen.evaluation.runs.predict import PromptBatch
    from longgen.serving.vllm.answers import engine_greedy

    shutil.copytree(hybrid(), tmp_path / "model")
    for path in (ROOT / "examples/models/full").glob("tokenizer*.json"):
        shutil.copy(path, tmp_path / "model")
    prompts = small.prompts_of([3, 80, 300])
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model, _ = load_model(tmp_path / "model", torch.float32, "cpu")
    free = {"max_num_batched_tokens": 1024, "kv_cache_memory_bytes": 2**28}
    made = []
    monkeypatch.setattr(vllm, "LLM", lambda *given, **options: made.append(LLM(*given, **options)) or made[0])
    engine, _ = engine_greedy(tmp_path / "model", "float32", **free)
    first = greedy(model)(PromptBatch(tokens, mask, 60)).tokens.tolist()
    stop = (first[1][20], first[2][40])  # tokens that are said
    for stops, least in (((), 0), (stop, 1), (stop, 45)):
        answers = []
        for generate in (greedy(model), engine):
            generated = generate(PromptBatch(tokens, mask, 60, least, stops))
            answers.append([until_end(row, generated.ends) for row in generated.tokens.tolist()])
        assert answers[0] == answers[1]
        assert least <= min(map(len, answers[0])) and (min(map(len, answers[0])) < 45) == (least == 1)
    small.shut_down(made[0])


@pytest.mark.skipif(not SMOLLM2.exists(), reason=f"no {SMOLLM2.relative_to(ROOT)}: `make {SMOLLM2.relative_to(ROOT)}`")
def test_a_real_model_in_bfloat16_differs_by_its_noise_alone(tmp_path):
    """Log probabilities of a text of several windows: as far from those in float32 as our own in bfloat16 are."""
    text = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    convert_checkpoint(SMOLLM2, tmp_path / "hybrid", "middle:1/3", SparsePattern(), dtype="bfloat16")
    tokens = AutoTokenizer.from_pretrained(SMOLLM2)(text).input_ids[:2600]
    ours = []
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "hybrid", dtype=dtype).eval()
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0, :-1].float()
        ours.append(logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0])
    sampling = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    options = {"dtype": "bfloat16", "max_num_batched_tokens": 700, "max_model_len": 2700}
    with small.engine(tmp_path / "hybrid", **options) as llm:
        watch = small.Watch(llm)
        (output,) = llm.generate([{"prompt_token_ids": tokens}], sampling, use_tqdm=False)
    assert watch.steps >= 4
    known = zip(output.prompt_logprobs[1:], tokens[1:], strict=True)
    theirs = torch.tensor([row[token].logprob for row, token in known])
    exact, rounded = ours
    for part in (slice(0, 1000), slice(1200, None)):  # within a window, and beyond
        noise = (rounded - exact)[part].square().mean().sqrt()
        assert (theirs - exact)[part].square().mean().sqrt() < 1.5 * noise
        assert (theirs - exact)[part].mean().abs() < noise / 4
