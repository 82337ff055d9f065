"""A probe from beginning to end: prompts, ranking, curves and greedy choice; the results are `ProbeFindings`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from tqdm import tqdm

from longgen.evaluation.perplexity.documents import open_text
from longgen.layout import Layout, count_full_layers
from longgen.modeling.conversion.source import FolderSource
from longgen.modeling.conversion.weights import fingerprint_weights
from longgen.pattern import SparsePattern
from longgen.probed_layout import Unit, Units
from longgen.probing import search
from longgen.probing.model import load_hybrid
from longgen.probing.passes import SharedPasses
from longgen.probing.prompts import make_prompts
from longgen.probing.search import Group, MeasuredSet
from longgen.probing.store import LossStore, open_store
from longgen.progress import progress_bar
from longgen.provenance import fingerprint
from longgen.strict import require

TIMED = 20  # layer evaluations after which the first forecast is made; our choice


@dataclass(frozen=True)
class ProbeRequest:
    """The options of a probe.

    Attributes:
        model: folder of the checkpoint.
        pattern: of the sparse layers; None: see `load_hybrid`.
        text: see `open_text`.
        length: tokens of a prompt.
        prompts: how many.
        facts: in each prompt.
        full_layers: how far the greedy choice goes: see `count_full_layers`.
        candidates: for the greedy choice, as many of the highest ranked layers, by heads as many layers' worth of
            heads; None: all.
        by_heads: probe KV heads instead of layers.
        placements: that are compared with.
        dtype: of weights and activations, by its name in torch.
        device: that computes.
        seed: of the prompts.
    """

    model: Path
    pattern: SparsePattern | None
    text: str | None
    length: int
    prompts: int
    facts: int
    full_layers: str
    candidates: int | None
    by_heads: bool
    placements: tuple[str, ...]
    dtype: str
    device: str
    seed: int


@dataclass(frozen=True)
class ProbeFindings:
    """The results of a probe.

    Attributes:
        model: the model, for its name and kernels.
        units: what was made sparse.
        pattern: of sparse layers.
        full_layers: how many the greedy choice has.
        groups: its candidates.
        ranked: all units, the costliest first.
        order: all units in the order in which they should be full: the greedy choice's, then by rank.
        sets: all that was measured.
        store: with their losses.
        source: what the text is.
        stand_in: whether it is no text of the user's.
        inputs: fingerprints of weights and prompts.
    """

    model: Any
    units: Units
    pattern: SparsePattern
    full_layers: int
    groups: list[Group]
    ranked: list[Unit]
    order: list[Unit]
    sets: list[MeasuredSet]
    store: LossStore
    source: str
    stand_in: bool
    inputs: dict[str, str]


def probe_model(request: ProbeRequest, measurements: Path, deadline: float) -> ProbeFindings:
    """Probe a model; what ``measurements`` holds of this very probe is not measured again.

    Args:
        request: its options.
        measurements: file of JSON lines, read and added to.
        deadline: on the clock of `time.monotonic`.

    Raises:
        ConfigError: the request does not fit the model, or the text.
        ArtifactError: the model is damaged, or another process writes ``measurements``.
        ProbeStoppedError: time is up.
    """
    dtype = getattr(torch, request.dtype)
    model, tokenizer, pattern = load_hybrid(request.model, request.pattern, dtype, request.device)
    config = model.config
    longest = config.max_position_embeddings
    require(request.length <= longest, "--length", request.length, f"at most {longest}, the model's own maximum")
    units = Units(config.num_hidden_layers, config.num_key_value_heads, request.by_heads)
    full_layers = count_full_layers(units.num_layers, request.full_layers)
    text = open_text(request.text, request.length, request.seed)
    prompts = make_prompts(
        text,
        tokenizer,
        pattern,
        units.num_kv_heads,
        count=request.prompts,
        length=request.length,
        facts=request.facts,
        seed=request.seed,
    )
    inputs = {
        "weights": fingerprint_weights(FolderSource(request.model)),
        "prompts": fingerprint([prompt.name for prompt in prompts]),
    }
    decisive = {"pattern": pattern.to_dict(), "dtype": request.dtype, "config": _decisive(config)}
    by = fingerprint(decisive | {"weights": inputs["weights"]})
    with open_store(measurements, by, prompts, deadline) as store:
        session = _Session(store, SharedPasses(model, pattern), len(prompts))
        ranked, groups, sets, chosen = _search(session, units, full_layers, request)
        return ProbeFindings(
            model=model,
            units=units,
            pattern=pattern,
            full_layers=full_layers,
            groups=groups,
            ranked=ranked,
            order=[*chosen, *(unit for unit in ranked if unit not in chosen)],
            sets=sets,
            store=store,
            source=text.source,
            stand_in=text.stand_in,
            inputs=inputs,
        )


def _decisive(config: Any) -> dict[str, Any]:
    """Of a config what changes losses besides the weights; layout and pattern are told otherwise."""
    left_out = {"longgen", "architectures", "transformers_version", "dtype", "_name_or_path"}
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def _search(
    session: _Session, units: Units, full_layers: int, request: ProbeRequest
) -> tuple[list[Unit], list[Group], list[MeasuredSet], list[Unit]]:
    """The ranking, the candidates, all sets, and the units that the greedy choice has."""
    count = search.candidate_count(units, full_layers, request.candidates)
    single = search.single_sets(units)
    session.announce(units, [each.layout for each in single], request.placements, full_layers, count)
    ranked = search.rank(units, session.stage("ranking"))
    curves = search.curve_sets(units, ranked, request.placements, full_layers)
    groups = search.grouped(ranked, units.per_layer, count)
    sets, chosen = [*single, *curves], list[Unit]()
    most = search.most_evaluations_of_greedy(units, groups, full_layers) * session.prompts
    with progress_bar(most, "greedy choice", "layer") as bar:
        for step in search.greedy(units, groups, full_layers, session.measuring(bar)):
            sets += step
            chosen += next(group for group in groups if group[0] == step[0].unit)
    session.stage("curves")([each.layout for each in curves])
    return ranked, groups, sets, chosen


class _Session:
    """Measures with a progress bar, and says how long that takes."""

    def __init__(self, store: LossStore, passes: SharedPasses, prompts: int) -> None:
        self.store, self.passes, self.prompts = store, passes, prompts
        self._most, self._done, self._began = 0, 0, 0.0

    def announce(
        self, units: Units, single: list[Layout], placements: Sequence[str], full_layers: int, candidates: int
    ) -> None:
        """Say how many layer evaluations are needed, before any is done."""
        layers, prompts = units.num_layers, self.prompts
        # of the ranking only its length is known yet
        curves = search.curve_sets(units, units.all, placements, full_layers)
        fixed = [each.layout for each in curves if each.name != "ranked"]
        ranking = self.store.evaluations_of(single)
        others = self.store.evaluations_of(fixed) + (len(curves) - len(fixed)) * layers * prompts
        lowest = search.grouped(units.all, units.per_layer, candidates)
        choice = search.most_evaluations_of_greedy(units, lowest, full_layers) * prompts
        self._most = ranking + others + choice
        tqdm.write(
            f"{prompts} prompts, layer evaluations of one prompt each: ranking {ranking:,}, greedy choice at most "
            f"{choice:,}, curves at most {others:,}; together at most {self._most / layers:,.0f} forward passes",
            file=sys.stderr,
        )

    def stage(self, name: str) -> search.Measure:
        """What measures, with a progress bar of its own."""

        def measure(layouts: Sequence[Layout]) -> np.ndarray:
            with progress_bar(self.store.evaluations_of(layouts), name, "layer") as bar:
                return self.measuring(bar)(layouts)

        return measure

    def measuring(self, bar: tqdm[NoReturn]) -> search.Measure:
        """What measures and moves ``bar`` on by every layer evaluation."""

        def advance() -> None:
            bar.update()
            self._forecast()

        def measure(layouts: Sequence[Layout]) -> np.ndarray:
            self._began = self._began or time.monotonic()
            self.store.measure(self.passes, layouts, advance)
            return np.stack([self.store.answers(layout) for layout in layouts])

        return measure

    def _forecast(self) -> None:
        self._done += 1
        if self._done == TIMED:
            each = (time.monotonic() - self._began) / TIMED
            tqdm.write(
                f"a layer evaluation takes {each:.3g} s here: at most {each * self._most / 60:,.1f} minutes in all",
                file=sys.stderr,
            )
