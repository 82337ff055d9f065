"""What of vLLM's settings a hybrid cannot follow: refused before a process or a weight is made."""

from __future__ import annotations

from vllm.config import CUDAGraphMode, ModelConfig, VllmConfig
from vllm.model_executor.models.config import VerifyAndUpdateConfig
from vllm.platforms import current_platform
from vllm.utils.torch_utils import kv_cache_dtype_str_to_dtype

from longgen.errors import ConfigError, require
from longgen.hybrid import Hybrid
from longgen.modeling import hybrid_of, longgen_classes
from longgen.modeling.qualification import sliding_window
from longgen.serving.blocks import check_block_size
from longgen.serving.vllm import SERVED_FAMILIES, base_family

DTYPES = ("auto", "float32", "bfloat16", "float16")


class HybridChecks(VerifyAndUpdateConfig):
    """vLLM asks this for models of our architectures, when their config is read and when all settings are known."""

    @staticmethod
    def verify_and_update_model_config(model_config: ModelConfig) -> None:
        """Refuse a hybrid that cannot be served; and lengths beyond what its RoPE was extended to.

        Raises:
            ConfigError: a family, a layout or a length that is not served.
        """
        config = model_config.hf_config
        check_model(model_config)
        check_hybrid(hybrid_of(config))
        # vLLM multiplies max_position_embeddings by the factor of linear interpolation; ours has it in it already
        longest, asked = config.max_position_embeddings, model_config.original_max_model_len
        if model_config.max_model_len > longest:
            require(asked is None or asked == -1, "--max-model-len", asked, f"up to max_position_embeddings {longest}")
            model_config.max_model_len = longest

    @staticmethod
    def verify_and_update_config(vllm_config: VllmConfig) -> None:
        """Refuse settings that a hybrid cannot follow; set the block size where none is given.

        Raises:
            ConfigError: the first such setting, with what is allowed.
        """
        parallel, cache = vllm_config.parallel_config, vllm_config.cache_config
        for name in ("tensor", "pipeline", "decode_context", "prefill_context"):
            size = getattr(parallel, f"{name}_parallel_size")
            flag = f"--{name.replace('_', '-')}-parallel-size"
            require(size == 1, flag, size, "1: with more, hybrids were never tried")
        untried = "not to give it: batches in two halves were never tried"
        require(not parallel.enable_dbo, "--enable-dbo", True, untried)
        require(parallel.ubatch_size <= 1, "--ubatch-size", parallel.ubatch_size, untried)
        require(
            vllm_config.speculative_config is None,
            "--speculative-config",
            getattr(vllm_config.speculative_config, "method", None),
            "none: tokens that are not accepted yet would free blocks",
        )
        check_model(vllm_config.model_config)  # vLLM skips the first check where the file names no architecture
        check_cache_dtype(vllm_config)
        require(
            vllm_config.kv_transfer_config is None,
            "--kv-transfer-config",
            getattr(vllm_config.kv_transfer_config, "kv_connector", None),
            "none: connectors take blocks for a prefix, and a sparse layer keeps others",
        )
        offloaded = cache.kv_offloading_size  # a connector too, which vLLM makes after this
        require(offloaded is None, "--kv-offloading-size", offloaded, "not to give it: see --kv-transfer-config")
        hybrid = hybrid_of(vllm_config.model_config.hf_config)
        if not hybrid.layout.num_sparse:
            return
        require(
            not vllm_config.scheduler_config.disable_hybrid_kv_cache_manager,
            "--disable-hybrid-kv-cache-manager",
            True,
            "not to give it: full and sparse layers keep different blocks",
        )
        if cache.user_specified_block_size:
            check_block_size(hybrid.pattern, cache.block_size)
        else:  # or the platform would put in its own, which may be larger than the pattern's
            cache.block_size, cache.user_specified_block_size = hybrid.pattern.block_size, True
        mode = vllm_config.compilation_config.cudagraph_mode
        if not current_platform.is_cpu() and (mode is None or mode.has_full_cudagraphs()):
            # attention cannot be captured, as the number of pieces changes: buffers for graphs would be too small
            vllm_config.compilation_config.cudagraph_mode = CUDAGraphMode.PIECEWISE


class PlainChecks(VerifyAndUpdateConfig):
    """vLLM asks this for models of the base families' architectures, which hybrids must not be run as."""

    @staticmethod
    def verify_and_update_model_config(model_config: ModelConfig) -> None:
        """Refuse a hybrid, of which such a model would compute full attention in all layers.

        Raises:
            ConfigError: the config has an entry ``longgen``.
        """
        if getattr(model_config.hf_config, "longgen", None) is not None:
            raise ConfigError(
                f"architectures is {model_config.architecture!r}, and config.longgen makes it a hybrid: that model "
                "would run full attention in all layers; allowed are the model_type and architectures that "
                "`longgen convert` writes"
            )


def check_model(model_config: ModelConfig) -> None:
    """Check that vLLM runs our model of the hybrid's family, and that nothing in its config changes who sees whom.

    Raises:
        ConfigError: a family that is not served, another architecture, or attention that a hybrid does not have.
    """
    config = model_config.hf_config
    family = base_family(config.model_type)
    require(family in SERVED_FAMILIES, "model_type", config.model_type, f"a hybrid of {', '.join(SERVED_FAMILIES)}")
    ours = longgen_classes(family)[1].__name__
    require(model_config.architecture == ours, "architectures", model_config.architecture, f"{ours}, as of model_type")
    window = sliding_window(config.to_dict())
    require(window is None, "config.sliding_window", window, "none: full layers of a hybrid see everything")
    causal = getattr(config, "is_causal", True)
    require(causal is not False, "config.is_causal", causal, "true: attention of a hybrid is causal")


def check_cache_dtype(vllm_config: VllmConfig) -> None:
    """Check that the cache holds what the model computes: kernels of CPUs read another dtype as if it were theirs.

    Raises:
        ConfigError: an option, or a quantised checkpoint, that asks for something else.
    """
    model, dtype = vllm_config.model_config, vllm_config.cache_config.cache_dtype
    require(dtype in DTYPES, "--kv-cache-dtype", dtype, f"one of {', '.join(DTYPES)}")
    own = str(model.dtype).removeprefix("torch.")
    same = kv_cache_dtype_str_to_dtype(dtype, model) == model.dtype
    require(same, "--kv-cache-dtype", dtype, f"auto, or the model's own dtype, {own}")
    # vLLM makes an fp8 cache of it when layers are made, after this
    quantization = getattr(model.hf_config, "quantization_config", None) or {}
    values = quantization if isinstance(quantization, dict) else quantization.to_dict()
    scheme = values.get("kv_cache_scheme")
    require(scheme is None, "config.quantization_config.kv_cache_scheme", scheme, "none: a cache that is not quantised")


def check_hybrid(hybrid: Hybrid) -> None:
    """Check that every layer sees the same in all its KV heads: an engine's page holds all of them.

    Raises:
        ConfigError: a layout by KV head, or staggered heads.
    """
    by_head = any(isinstance(flags, tuple) for flags in hybrid.layout.full)
    require(
        not by_head,
        "config.longgen.layout",
        "by KV head",
        "full or sparse for a whole layer: a page holds all KV heads",
    )
    staggered = hybrid.pattern.staggered
    require(not staggered, "config.longgen.pattern.staggered", staggered, "false: a page holds all KV heads")
