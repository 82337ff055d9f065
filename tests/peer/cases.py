"""A test class per case, as transformers has one per model. Collected by `python -m tests.peer` alone."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

from transformers import PreTrainedModel

from longgen.modeling.mixin import LongGenMixin
from tests.peer.fetched import make_importable
from tests.peer.testers import BASE, CASES, ModelTester

make_importable()

import transformers_tests.test_modeling_common as common  # noqa: E402
from transformers_tests.generation.test_utils import GenerationTesterMixin  # noqa: E402
from transformers_tests.test_configuration_common import ConfigTester  # noqa: E402
from transformers_tests.test_modeling_common import ModelTesterMixin  # noqa: E402
from transformers_tests.test_training_mixin import TrainingTesterMixin  # noqa: E402

# Where they compare two implementations of the base's attention, ours are compared: the plain one and the quick one.
OURS = {"eager": "longgen_reference", "sdpa": "longgen"}
compare_implementations = common._test_eager_matches_sdpa_inference
from_pretrained = PreTrainedModel.from_pretrained.__func__


def load_ours(model_class, *args, attn_implementation=None, **kwargs):
    name = OURS.get(attn_implementation, attn_implementation)
    return from_pretrained(model_class, *args, attn_implementation=name, **kwargs)


def compare_our_implementations(test, *args, **kwargs):
    if test.case.pattern == BASE:
        return compare_implementations(test, *args, **kwargs)
    with (
        mock.patch.object(PreTrainedModel, "from_pretrained", classmethod(load_ours)),
        mock.patch.object(LongGenMixin, "_supports_sdpa", True),
    ):
        return compare_implementations(test, *args, **kwargs)


common._test_eager_matches_sdpa_inference = compare_our_implementations


class PeerTest(ModelTesterMixin, GenerationTesterMixin, TrainingTesterMixin):
    """The common tests; a subclass names its case."""

    # By the year in a file's first lines they leave out what was not seen to; all of ours was.
    test_can_init_all_missing_weights_before_2023 = True
    case: Any
    model_tester: Any = None

    def setUp(self):
        self.model_tester = ModelTester(self.case)
        self.all_model_classes = self.model_tester.all_model_classes

    def test_config(self):
        config = self.model_tester.get_config()
        own = {"longgen": config.longgen} if hasattr(config, "longgen") else {}
        ConfigTester(self, config_class=type(config), **own).run_common_tests()


for case in CASES:
    globals()[case.class_name] = type(case.class_name, (PeerTest, unittest.TestCase), {"case": case})
del PeerTest, ModelTesterMixin  # pytest would take them for tests
