"""What every job of the workflow asks of a cluster, by the planner and assumptions. Never a measurement."""

from longgen.cluster.jobs import REQUESTS, deciding, job_request
from longgen.cluster.request import RESOURCES, JobRequest

__all__ = [
    "REQUESTS",
    "RESOURCES",
    "JobRequest",
    "deciding",
    "job_request",
]
