"""What tests of conversion share."""

import pytest

from tests.modeling.models import tiny_base


@pytest.fixture
def base(tmp_path):
    tiny_base().save_pretrained(tmp_path / "base", max_shard_size="100KB")
    return tmp_path / "base"
