"""What every job of the workflow asks of a cluster, by the planner and assumptions. Never a measurement."""

from longgen.cluster.jobs import LOCAL_RULES, REQUESTS, deciding, job_request, selected_variants, submitted_jobs
from longgen.cluster.request import RESOURCES, JobRequest

__all__ = [
    "LOCAL_RULES",
    "REQUESTS",
    "RESOURCES",
    "JobRequest",
    "deciding",
    "job_request",
    "selected_variants",
    "submitted_jobs",
]
