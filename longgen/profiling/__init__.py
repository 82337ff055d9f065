"""Speed and memory, measured: attention alone, training steps, prefill and decoding, and the variants of an experiment.

**A session** (`session`) measures the cases of a stage, one after another: within a time budget, going on where an
earlier one stopped, each result on disk at once with its provenance. It knows nothing of what is measured. **A stage**
is one object that says so: its cases, what each measures, what its records hold, and the table that is printed. What it
writes is named alike, such as ``results/RUN/kernels/kernel-checks.json``:

- `kernel_checks`: our attention kernels against a reference in higher precision.
- `kernel_speed`: attention alone by our kernels and by others (`implementations`), on `workloads`; device limits.
- `kernel_tuning`: tile sizes of our kernels.
- `training_speed`: training steps of slices of a model (`training_slice`), and on a CPU of parts of a layer
  (`training_parts`).
- `inference_speed`: prefill, decoding and KV cache: which cases. `inference_records` says what their records hold,
  `inference_measure` measures them, on an `inference_model`.

**Commands.** `gpu` runs all stages on one device, ``longgen profile train`` and ``inference`` one of them. Without a
session: `experiment`, the variants of an experiment side by side (``longgen profile CONFIG``); and `cpu`, attention
without Triton.

**What they share.** `stacks`: slices of a model and whole models, as layers on top of each other; `composition`: from
the seconds of slices to those of whole models; `models`: such models with random weights. `rounds`: everything that is
compared runs once in each. `timing`: one call, warmed up, by events of the device; `device`: precision, memory, peak.
`fastest`: the kernels of full attention that LongGen is compared with. `table`: records in a terminal.

How busy the machine was meanwhile, `longgen.busy` tells; the words of records are in `longgen.records.speed`.
"""
