"""Arguments that `longgen plan` and `longgen plan train` share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from longgen.layout import Layout
    from longgen.shapes import ModelShape

# Our choice where the paper is silent.
DEFAULT_LENGTH = "131072"
DEFAULT_FULL_LAYERS = "1/3"
DEFAULT_PLACEMENT = "middle"

Model = Annotated[
    str | None, typer.Option(help="Name such as llama2-7b, or path of a config.json or of the folder that has it.")
]
FullLayers = Annotated[
    str | None,
    typer.Option(help="Layers that stay full: a count, a fraction, all or none.", show_default=DEFAULT_FULL_LAYERS),
]
Placement = Annotated[
    str | None,
    typer.Option(
        help="Where they are: middle, ends, bottom, top, interleaved, or heads (spread over the heads of all layers).",
        show_default=DEFAULT_PLACEMENT,
    ),
]


def model_shape_of(asked: dict[str, Any]) -> ModelShape:
    """The model that the options name. Raises ConfigError if none is given, or it is unknown."""
    from longgen.errors import ConfigError
    from longgen.shapes import MODEL_SHAPES, model_shape

    if "model" not in asked:
        raise ConfigError(f"--model is missing: allowed are {', '.join(MODEL_SHAPES)}, or a path; or give --config")
    return model_shape(asked["model"])


def model_and_layout(asked: dict[str, Any]) -> tuple[ModelShape, Layout]:
    """The model and its full layers that the options above describe.

    Raises:
        ConfigError: no model is given or it is unknown, or the layers are impossible.
    """
    from longgen.layout import make_layout

    shape = model_shape_of(asked)
    full_layers, placement = asked.get("full_layers", DEFAULT_FULL_LAYERS), asked.get("placement", DEFAULT_PLACEMENT)
    return shape, make_layout(shape.num_layers, full_layers, placement, shape.num_kv_heads)


def whole_numbers(asked: dict[str, Any], name: str, default: str) -> list[int]:
    """What the option ``name`` lists, repeated or separated by commas. Raises ConfigError unless all are >= 1."""
    from longgen.errors import ConfigError

    words = [word.strip() for words_ in asked.get(name, [default]) for word in words_.split(",")]
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--{name} is {word!r}: allowed are whole numbers >= 1, such as 4096 or 4096,131072")
    return [int(word) for word in words]
