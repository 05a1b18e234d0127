"""Building an index."""

import pytest

from resnetctl.data.index import Index
from resnetctl.data.index_writer import IndexBuilder
from resnetctl.errors import DataError
from tests.data.test_index import INFO, RECORDS, build


def test_no_sample_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="the train split has no images"):
        build(tmp_path / "x", [])
    with pytest.raises(DataError, match=r"holds a/\\udcff\\n\[/\]\.jpg twice"):
        build(tmp_path / "x", [*RECORDS, RECORDS[4]])
    assert list(tmp_path.iterdir()) == []


def test_counts_and_bytes_of_a_builder():
    builder = IndexBuilder()
    for record in RECORDS:
        builder.add(record)
    assert builder.class_counts(3).tolist() == [3, 2, 0]
    assert builder.total_bytes() == 650
    assert list(builder.names_and_labels()) == [(r.name, r.label) for r in RECORDS]


def test_a_builder_can_be_divided(tmp_path):
    builder = IndexBuilder()
    for record in RECORDS:
        builder.add(record)
    first, second = builder.divide(lambda name, label: label == 1)
    first.write(tmp_path / "first", INFO)
    second.write(tmp_path / "second", INFO)
    together = [*Index(tmp_path / "first"), *Index(tmp_path / "second")]
    assert together == list(build(tmp_path / "x"))
