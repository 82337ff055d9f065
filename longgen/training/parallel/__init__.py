"""Training on several processes: Ulysses sequence parallelism and FSDP2. One process needs none of it."""
