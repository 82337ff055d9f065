"""What every job of the workflow requests of a cluster, by the planner and assumptions. Never a measurement."""

from longgen.cluster.jobs import REQUESTS, job_request, request_wildcards
from longgen.cluster.request import RESOURCES, JobRequest

__all__ = [
    "REQUESTS",
    "RESOURCES",
    "JobRequest",
    "job_request",
    "request_wildcards",
]
