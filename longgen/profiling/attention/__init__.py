"""Our attention kernels against others, on one device: numerics first, then time."""
