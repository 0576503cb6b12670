"""What stands in a federation file, beyond the mistakes that `cli/test_cli_errors.py` lists."""

from fedstill.config import parse


def test_an_empty_text_leaves_a_span_open():
    file = parse(
        {
            "task": {"kind": "forecast", "test": ["2017-01-01", ""]},
            "transfer": {"history": ["", "2016-06-01"]},
            "participants": [{"name": "a", "history": ["2016-01-01", ""]}],
        }
    )
    assert file.task["test"] == ["2017-01-01", None]
    assert file.transfer.history == (None, "2016-06-01")
    assert file.participants[0].history == ("2016-01-01", None)


def test_what_a_participant_leaves_open_comes_from_the_data_table():
    file = parse({"data": {"file": "all.csv", "timezone": "UTC"}, "participants": [{"name": "a", "file": "a.csv"}]})
    chosen = file.participants[0].over(file.data)
    assert (chosen.file, chosen.timezone, chosen.load) == ("a.csv", "UTC", None)
