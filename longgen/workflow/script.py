"""A run as a shell script, for machines without Snakemake: its jobs one after the other, resumable, within a time."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from longgen.errors import TO_BE_CONTINUED
from longgen.workflow.graph import Job

# How long what is told to stop by `timeout` may take: training writes a checkpoint.
SECONDS_TO_STOP = 120

HEAD = """\
#!/usr/bin/env bash
# The run `{run}` without Snakemake: made by `longgen commands`, to be run where that was, or in a copy of that folder.
#
#   bash FILE            all of it; after an interruption the same command goes on
#   bash FILE MINUTES    ends after so many minutes with exit code {to_be_continued} if something is left
#
# A command is left out when it was done before as it is here, and what it made is still there as it was: copy the
# folder with its times (cp -a, rsync -a, tar).
set -uo pipefail
minutes=${{1:-}}
case $minutes in *[!0-9]* | 0) echo "$0: MINUTES is '$minutes': allowed are whole numbers from 1" >&2; exit 2 ;; esac
done={done}

job() {{ # identity, name, command, what it makes
  local identity=$1 name=$2 command=$3 mark="$done/$2" output there=yes limit=() status
  shift 3
  for output in "$@"; do [ -e "$output" ] && [ ! "$output" -nt "$mark" ] || there=no; done
  [ $there = yes ] && [ "$(cat "$mark" 2> /dev/null)" = "$identity" ] && return
  if [ -n "$minutes" ]; then
    local left=$((60 * minutes - SECONDS))
    [ $left -gt 0 ] || {{ echo "time is up before: $name" >&2; exit {to_be_continued}; }}
    # training stops at this signal, with a checkpoint
    limit=(timeout --signal=USR1 --kill-after={seconds_to_stop} $left)
  fi
  echo "== $name" >&2
  mkdir -p "$done"
  rm -f "$mark"
  for output in "$@"; do mkdir -p "$(dirname "$output")"; done
  # this shell outlives the signal, which all processes get, and tells what became of its command
  "${{limit[@]}}" bash -c "trap : USR1; set -euo pipefail; $command"
  status=$?
  case $status in
    0) echo "$identity" > "$mark"; return ;;
    {to_be_continued} | 124) ;;
    *)
      # what did not stop in time was killed; all else is an error
      if [ -z "$minutes" ] || [ $SECONDS -lt $((60 * minutes)) ]; then
        echo "exit code $status of: $name" >&2
        exit $status
      fi
      ;;
  esac
  echo "time is up in: $name; the same command goes on" >&2
  exit {to_be_continued}
}}

"""


def shell_script(jobs: Sequence[Job], run: str, folder: str) -> str:
    """A script for bash that does what Snakemake would, one job after the other.

    What makes something temporary becomes a part of the jobs that need it, and is deleted by them.

    Args:
        jobs: of `longgen.workflow.workflow_jobs`.
        run: name of the run.
        folder: of the marks that say what is done: a file a job, with its identity.
    """
    by_identity = {job.identity: job for job in jobs}
    values = {"run": run, "done": shlex.quote(folder), "seconds_to_stop": SECONDS_TO_STOP}
    lines = [HEAD.format(**values, to_be_continued=TO_BE_CONTINUED)]
    for job in jobs:
        if not job.temporary:
            before = [by_identity[name] for name in job.needs if by_identity[name].temporary]
            outputs = [path for path in job.outputs if path not in job.touched]
            steps = [command for each in before for command in _commands(each)] + _commands(job)
            steps += [f"rm -rf {shlex.quote(path)}" for each in before for path in each.temporary]
            arguments = [job.identity, job.name, "\n".join(steps), *outputs, *job.touched]
            lines.append(" ".join(["job", *map(shlex.quote, arguments)]))
    return "\n".join(lines) + "\n"


def _commands(job: Job) -> list[str]:
    """What a job runs, without the copy of its messages, and what Snakemake does after it."""
    command = re.sub(r" 2> >\(tee [^)]*\)\s*$", "", job.command)
    folders = sorted({path.rpartition("/")[0] for path in job.outputs} - {""})
    before = [f"mkdir -p {' '.join(map(shlex.quote, folders))}"] if job.temporary and folders else []
    return [*before, command, *(f"touch {shlex.quote(path)}" for path in job.touched)]
