"""A GGUF file (llama.cpp's format) as a source: read by transformers, dequantised, and given on as a checkpoint.

transformers reads what its mapping knows and passes over the rest. A file that holds something which would be lost that
way, and change the model, is refused.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import is_accelerate_available, is_gguf_available

from longgen.errors import ArtifactError, ConfigError
from longgen.files import write_json
from longgen.foreign import reading
from longgen.modeling.conversion.safetensors_file import TensorInfo
from longgen.modeling.conversion.source import CONFIG, read_mapping
from longgen.modeling.conversion.weights import SAFETENSORS, check_depth, model_tensors, some_of
from longgen.modeling.loading import load_complete

# general.architecture that transformers' reader was tried with, and whose config it rebuilds in full
ARCHITECTURES = ("llama", "qwen2", "qwen3")
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ANEW = "get the file anew"
INSTEAD = "allowed is a file without it, or the checkpoint in safetensors that the file was made from"


class GgufSource:
    """See `Source`. Config and tokenizer are read at once, the weights when they are first asked for.

    Args:
        path: the file.
        dtype: of the weights; None for float32, or where nothing is quantised for what the matrices are stored as.

    Raises:
        ConfigError: the packages that read GGUF are not installed; or the file says something that would be lost.
        ArtifactError: no GGUF file, or a damaged one.
    """

    temporary = True
    revision: str | None = None

    def __init__(self, path: Path, dtype: torch.dtype | None = None) -> None:
        if not (is_gguf_available() and is_accelerate_available()):
            raise ConfigError(f"{path} needs packages that read GGUF: allowed with `pip install 'longgen[gguf]'`")
        from gguf import GGUFReader

        self.path: Path | None = path
        self.name = path.name
        self.where = self.config = str(path)
        self._stat = path.stat()
        with reading(path, ANEW):
            self._reader = GGUFReader(path)
        types = Counter(tensor.tensor_type.name for tensor in self._reader.tensors if len(tensor.shape) > 1)
        quantised_types = [kind for kind, _ in types.most_common() if kind not in FLOATS]
        (common, _), *_ = types.most_common(1) or [("F32", 0)]
        self.dtype = dtype or (torch.float32 if quantised_types else FLOATS[common])
        name = str(self.dtype).removeprefix("torch.")
        self.weights: str | None = (
            f"dequantised from {' and '.join(quantised_types)} to {name}"
            if quantised_types
            else f"{common} in the GGUF file, here {name}"
        )
        self._folder = folder = Path(tempfile.mkdtemp(prefix="longgen-gguf-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        # alone in a folder: transformers would take tokenizer files beside it for its own
        (folder / path.name).symlink_to(path.absolute())
        self._checkpoint = folder / "checkpoint"
        self._checkpoint.mkdir()
        self._values = self._read_config(folder)
        with reading(path, ANEW):
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=path.name)
        tokenizer.save_pretrained(self._checkpoint)
        write_json(self._checkpoint / CONFIG, self._values)

    def _read_config(self, folder: Path) -> dict[str, Any]:
        fields = {key: field.contents() for key, field in self._reader.fields.items()}
        self._kind = kind = fields.get("general.architecture")
        if kind not in ARCHITECTURES:
            allowed = ", ".join(ARCHITECTURES)
            raise ConfigError(f"{self.where}: general.architecture is {kind!r}: allowed are {allowed}")
        for key, harmless in (
            ("split.count", (0, 1)),
            (f"{kind}.expert_count", (0,)),
            (f"{kind}.rope.scaling.type", ("none",)),
            (f"{kind}.rope.scale_linear", (1.0,)),
        ):
            if fields.get(key, harmless[0]) not in harmless:
                raise ConfigError(
                    f"{self.where}: {key} is {fields[key]!r}, which transformers does not read: {INSTEAD}"
                )
        with reading(self.where, ANEW):
            config = AutoConfig.from_pretrained(folder, gguf_file=self.name)
        values: dict[str, Any] = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        values |= {"dtype": str(self.dtype).removeprefix("torch.")}
        if f"{kind}.attention.key_length" in fields:
            values["head_dim"] = fields[f"{kind}.attention.key_length"]
        if fields.get(f"{kind}.attention.sliding_window"):
            values |= {"sliding_window": fields[f"{kind}.attention.sliding_window"], "use_sliding_window": True}
        return values

    def sizes(self) -> dict[str, int]:
        """See `Source`; the size of the weights is that of their values."""
        sizes = {path.name: path.stat().st_size for path in sorted(self._checkpoint.iterdir()) if path.is_file()}
        elements = sum(int(tensor.n_elements) for tensor in self._reader.tensors)
        return sizes | {SAFETENSORS: elements * self.dtype.itemsize}

    def identity(self, name: str) -> dict[str, int]:
        """Size and time of the last change of the GGUF file, whatever is asked for: all comes from it."""
        return {"size": self._stat.st_size, "mtime_ns": self._stat.st_mtime_ns}

    def file(self, name: str, scratch: Path) -> Path:
        """See `Source`; the weights are written below ``scratch``, once."""
        if name != SAFETENSORS:
            return self._checkpoint / name
        scratch.mkdir(parents=True, exist_ok=True)
        save_file(self._state, scratch / name, metadata={"format": "pt"})
        del self._state
        return scratch / name

    def read_json(self, name: str) -> dict[str, Any]:
        """See `Source`."""
        return read_mapping(self._checkpoint / name)

    def tensors(self, name: str) -> dict[str, TensorInfo]:
        """See `Source`; reads all weights into memory."""
        return {
            tensor: TensorInfo(value.dtype, tuple(value.shape), 0, value.nbytes)
            for tensor, value in self._state.items()
        }

    @cached_property
    def _state(self) -> dict[str, torch.Tensor]:
        config = AutoConfig.for_model(**self._values)
        self._check_tensors(config)
        model = load_complete(
            self._folder,
            ANEW,
            where=self.where,
            gguf_file=self.name,
            config=config,
            dtype=self.dtype,
            # else what is quantised may stay so in the model, depending on the kernels that are installed
            quantization_config=GgufConfig(dequantize=True),
        )
        tied = model.all_tied_weights_keys
        return {name: value.contiguous() for name, value in model.state_dict().items() if name not in tied}

    def _check_tensors(self, config: Any) -> None:
        """Check that the file holds the model's tensors and no other: transformers passes over others in silence."""
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        kind = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == self._kind)
        tensors = {tensor.name for tensor in self._reader.tensors}
        check_depth(config.num_hidden_layers, self.where, tensors)
        names = get_tensor_name_map(kind, config.num_hidden_layers)
        model_class = AutoModelForCausalLM._model_mapping[type(config)]
        model = model_tensors(model_class, config)
        expected = {names.get_name(name, (".weight", ".bias")) for name in model.shapes.keys() - model.tied.keys()}
        if expected - tensors:
            raise ArtifactError(
                f"{self.where} misses {some_of(sorted(map(str, expected - tensors)))}: get the file anew"
            )
        if tensors - expected:
            raise ConfigError(
                f"{self.where} holds {some_of(sorted(tensors - expected))}, which transformers does not read: {INSTEAD}"
            )
