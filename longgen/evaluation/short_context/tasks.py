"""Short-context tasks: lm-eval's own definitions, with the official data or other records in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from longgen.errors import ConfigError
from longgen.evaluation.short_context.data import own_data, stand_in_data
from longgen.evaluation.sources import HUB
from longgen.strict import require

DEFINITIONS = Path(lm_eval.__file__).parent / "tasks"


@dataclass(frozen=True)
class ShortTask:
    """A task or group of lm-eval.

    Attributes:
        folder: of its definition, below ``lm_eval/tasks``.
        num_fewshot: examples before the question, unless the user says otherwise.
    """

    folder: str
    num_fewshot: int

    @property
    def family(self) -> str:
        """Key of its stand-in records."""
        return self.folder.partition("/")[0]


# The first six (`longgen.names.SHORT_CONTEXT_TASKS`), with their numbers of examples, are the tasks of Hugging Face's
# Open LLM Leaderboard, version 1, as its results name them: ARC (25-shot), HellaSwag (10-shot), MMLU (5-shot),
# TruthfulQA (0-shot), Winogrande (5-shot), GSM8K (5-shot). That they are the default is our choice, as are the other
# two without examples.
TASKS = {
    "arc_challenge": ShortTask("arc", 25),
    "hellaswag": ShortTask("hellaswag", 10),
    "mmlu": ShortTask("mmlu/default", 5),
    "truthfulqa_mc2": ShortTask("truthfulqa", 0),
    "winogrande": ShortTask("winogrande", 5),
    "gsm8k": ShortTask("gsm8k", 5),
    "arc_easy": ShortTask("arc", 0),
    "piqa": ShortTask("piqa", 0),
}


@dataclass(frozen=True)
class TaskSet:
    """Tasks ready to be evaluated.

    Attributes:
        tasks: lm-eval's tasks by name, groups resolved.
        groups: lm-eval's groups by name.
        stand_in: whether their records are stand-ins, and scores on them no scores of the benchmarks.
    """

    tasks: dict[str, Any]
    groups: dict[str, Any]
    stand_in: bool


def load_tasks(names: Sequence[str], num_fewshot: int | None = None, data_root: str | None = None) -> TaskSet:
    """Load tasks with their data.

    Args:
        names: in `TASKS`; with the hub, any of lm-eval's tasks and groups (to index all of them takes half a minute).
        num_fewshot: examples before each question; None for that of `TASKS`, or lm-eval's own. A task that lm-eval
            defines without examples stays so.
        data_root: None for stand-in records, ``hub:`` for the official data from the Hugging Face hub, else a folder
            with ``short-context/<task>/<split>.jsonl``.

    Raises:
        ConfigError: an unknown task, or more examples than there are.
        ArtifactError: a file of the folder is missing or bad.
    """
    hub = data_root == HUB
    if not hub:
        for name in names:
            require(name in TASKS, "task", name, f"{', '.join(TASKS)}; with {HUB} any of lm-eval's")
    manager = _task_manager(names)
    if not hub:
        _replace_data(manager, names, data_root)
    task_set = TaskSet({}, {}, stand_in=data_root is None)
    for name in names:
        if name not in manager.task_index:
            raise ConfigError(f"task is {name!r}: allowed are {', '.join(TASKS)}, and with {HUB} any of lm-eval's")
        lm_eval_tasks = manager.load([name])
        shots = TASKS[name].num_fewshot if num_fewshot is None and name in TASKS else num_fewshot
        for task in lm_eval_tasks["tasks"].values():
            _set_fewshot(task, shots, capped=task_set.stand_in)
        task_set.tasks.update(lm_eval_tasks["tasks"])
        task_set.groups.update(lm_eval_tasks["groups"])
    return task_set


def _task_manager(names: Sequence[str]) -> TaskManager:
    if not set(names) <= set(TASKS):
        return TaskManager()
    folders = dict.fromkeys(DEFINITIONS / TASKS[name].folder for name in names)
    return TaskManager(include_defaults=False, include_path=list(folders))


def _replace_data(manager: TaskManager, names: Sequence[str], data_root: str | None) -> None:
    """Let every task in the manager's index take other records, which are read when it is loaded."""
    families = {DEFINITIONS / TASKS[name].folder: TASKS[name].family for name in names}
    for name in manager.all_subtasks:
        entry = manager.task_index[name]
        family = families[entry.yaml_path.parent]
        records: Callable[[], Any] = (
            functools.partial(stand_in_data, family)
            if data_root is None
            else functools.partial(own_data, family, name, Path(data_root))
        )
        config = load_yaml(entry.yaml_path) | {"custom_dataset": lambda records=records, **_: records()}
        manager.task_index[name] = replace(entry, yaml_path=None, cfg=config)


def _set_fewshot(task: Any, shots: int | None, capped: bool) -> None:
    own = task.get_config("num_fewshot")
    num_shots = own or 0 if shots is None or own == 0 else shots
    if num_shots:
        # lm-eval's own rule of when it draws one more, lest an example be the question itself
        spare = task.fewshot_cfg.split == task.config.test_split
        available = len(task.sampler.fewshot_docs()) - spare
        if num_shots > available:
            require(
                capped,
                f"num_fewshot of {task.config.task}",
                num_shots,
                f"up to {available}, the examples that there are",
            )
            num_shots = available
    task.set_config(key="num_fewshot", value=num_shots)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
