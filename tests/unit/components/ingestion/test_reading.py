"""Which of several rows of one id is taken."""

from __future__ import annotations

from components.ingestion.layout import Source
from components.ingestion.reading import BAD, TALLY, first_row


def test_of_one_ids_rows_the_first_by_file_and_line_number_is_taken() -> None:
    # As texts, line 10 would come before line 9.
    rows = [("b.csv", 2, b"", "third"), ("a.csv", 10, b"", "second"), ("a.csv", 9, b"", "first")]

    first, outputs = first_row(rows, Source.ITEMS, 0)

    assert first == ("a.csv", 9, b"", "first")
    bad = [output.value for output in outputs if output.tag == BAD]
    assert [entry.partition('"row": ')[2] for entry in bad] == ['"second"}', '"third"}']
    assert [output.value[1] for output in outputs if output.tag == TALLY] == [2]
