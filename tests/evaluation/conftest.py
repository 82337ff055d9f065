"""What tests of RULER share."""

import pytest

from longgen.evaluation.ruler import data
from longgen.evaluation.ruler.essays import plain_sentences
from tests.evaluation.ruler_data import write_official_data


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A data root; its essay has plain sentences, where NLTK finds the same."""
    write_official_data(tmp_path / "ruler")
    monkeypatch.setattr(data, "punkt", lambda: plain_sentences)
    return tmp_path
