"""The request of the job that probes the base model."""

from __future__ import annotations

from longgen.cluster.asked import Asked
from longgen.cluster.generation import answers_seconds, generation_request
from longgen.cluster.request import JobRequest
from longgen.config import needed
from longgen.layout import PROBED, PROBED_HEADS, count_full_layers
from longgen.probing.layouts import Units
from longgen.probing.search import default_placements, most_forward_passes


def probe(asked: Asked) -> JobRequest:
    """Which layers, or with wildcard ``heads`` which KV heads, of the base model need full attention."""
    settings = needed(asked.experiment.probe, "probe")
    by_heads = PROBED + asked.wildcards["heads"] == PROBED_HEADS
    units = Units(asked.shape.num_layers, asked.shape.num_kv_heads, by_heads)
    full_layers = count_full_layers(units.num_layers, settings.full_layers)
    passes = most_forward_passes(units, default_placements(by_heads), full_layers, settings.candidates)
    prompts = {settings.length: settings.prompts * passes}
    seconds = answers_seconds(asked, prompts, settings.device, settings.dtype, answer_tokens=0)
    return generation_request(asked, seconds, settings.length, settings.device, settings.dtype)
