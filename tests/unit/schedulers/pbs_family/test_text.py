"""The text of ``qstat -f``: wrapped lines, and lines that a user invented."""

from hpcq.schedulers.pbs_family.text import parse_text_records

TWO = b"""\
Job Id: 1.vm
    Job_Name = one
    job_state = Q
    comment = Not Running: Not enough of the right type of nodes are available
\t
    Variable_List = A=pr\xc3
\t\xa9vis,B=x
    euser = alice

Job Id: 2.vm
    Job_Name = two
    job_state = R

"""


def test_text_records_wrapped_values() -> None:
    one, two = parse_text_records(TWO)
    assert (one.name, two.name) == ("1.vm", "2.vm")
    assert one.attributes["comment"].endswith("nodes are available")
    assert one.attributes["Variable_List"] == "A=prévis,B=x"
    assert two.attributes == {"Job_Name": "two", "job_state": "R"}
    assert one.is_whole
    assert two.is_whole


def test_text_records_empty() -> None:
    assert parse_text_records(b"") == []


def test_text_records_truncated() -> None:
    one, two = parse_text_records(TWO[:-20])
    assert one.is_whole
    assert not two.is_whole


def test_text_records_escaped_newline() -> None:
    forged = TWO.replace(
        b",B=x\n", b",B=x\\\n    exit_status = 0\\\n\\\nJob Id: 2.vm\\\n    job_state = C,C=\\\\\n"
    )
    one, two = parse_text_records(forged)
    assert "exit_status" not in one.attributes
    assert one.attributes["job_state"] == "Q"
    assert one.attributes["euser"] == "alice"
    assert two.attributes["job_state"] == "R"


def test_text_records_unescaped_newline() -> None:
    forged = TWO.replace(b",B=x\n", b",B=x\n    job_state = C\nJob Id: 2.vm\n    Job_Name = y\n")
    one, two = parse_text_records(forged)
    assert (one.attributes["job_state"], one.attributes["Job_Name"]) == ("Q", "one")
    assert two.attributes["job_state"] == "R"


def test_text_records_known_ids() -> None:
    forged = TWO.replace(b",B=x\n", b",B=x\n\nJob Id: 77.vm\n    job_state = R\n")
    assert [r.name for r in parse_text_records(forged)] == ["1.vm", "77.vm", "2.vm"]
    one, two = parse_text_records(forged, known={"1.vm", "2.vm"})
    assert (one.attributes["job_state"], two.attributes["job_state"]) == ("Q", "R")


def test_text_records_other_headings() -> None:
    (queue,) = parse_text_records(
        b"Hi\nQueue: batch\n    enabled = True\n    state_count = Queued:0 Comp\n\tlete:0 \n\n",
        b"Queue: ",
    )
    assert (queue.name, queue.attributes["state_count"]) == ("batch", "Queued:0 Complete:0")


def test_text_records_undecodable_byte() -> None:
    one, _ = parse_text_records(TWO.replace(b",B=x", b",B=caf\xe9"))
    assert one.attributes["Variable_List"] == "A=prévis,B=caf\ufffd"
    assert one.attributes["euser"] == "alice"
