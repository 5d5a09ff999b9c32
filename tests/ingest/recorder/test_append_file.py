"""Whole lines or none: what a crash, a full disk or a second recorder may not do to a file."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.errors import SafetyRefusal, SlipstreamError, UsageError
from slipstream.ingest.recorder.append_file import AppendFile

HEADER = "timestamp,value"
LINES = [f"{n}.000000,{n * n}" for n in range(5)]
WHOLE = "".join(f"{line}\n" for line in [HEADER, *LINES]).encode()


def test_a_new_file_has_a_header_and_a_reopened_one_is_continued(tmp_path):
    path = tmp_path / "deep" / "a.csv"
    for part in (b"1,2\n", b"3,4\n"):
        file = AppendFile(path, HEADER)
        file.append(part)
        file.close()
    assert path.read_text() == f"{HEADER}\n1,2\n3,4\n"


@given(st.integers(0, len(WHOLE)))
def test_a_file_cut_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "a.csv"
    path.write_bytes(WHOLE[:cut])
    file = AppendFile(path, HEADER)
    file.append(b"9,9\n")
    file.close()
    kept = WHOLE[:cut].decode().splitlines(keepends=True)
    expected = [f"{HEADER}\n", *(line for line in kept[1:] if line.endswith("\n")), "9,9\n"]
    assert path.read_text() == "".join(expected)


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("letters\nhello\nworld, unfinished")
    with pytest.raises(UsageError, match="begins with 'letters'"):
        AppendFile(path, HEADER)
    assert path.read_text() == "letters\nhello\nworld, unfinished"


def test_a_file_that_another_process_appends_to_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    code = (
        "import sys\nfrom pathlib import Path\nfrom slipstream.ingest.recorder.append_file import AppendFile\n"
        f"f = AppendFile(Path({str(path)!r}), {HEADER!r})\nprint('open', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(SafetyRefusal, match="another process"):
            AppendFile(path, HEADER)
        other.stdin.close()
    AppendFile(path, HEADER).close()


def test_a_name_that_differs_only_by_case_is_refused(tmp_path):
    AppendFile(tmp_path / "kPEPE.csv", HEADER).close()
    with pytest.raises(SafetyRefusal, match="differs only by case"):
        AppendFile(tmp_path / "KPEPE.csv", HEADER)


def test_a_full_disk_gives_an_error_and_takes_the_half_written_line_back(tmp_path):
    path = tmp_path / "a.csv"
    file = AppendFile(path, HEADER)
    file.append(b"1,1\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(SlipstreamError, match="cannot be written"):
            file.append(b"2,2\n" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == f"{HEADER}\n1,1\n"
    file.append(b"3,3\n")
    file.close()
    assert path.read_text() == f"{HEADER}\n1,1\n3,3\n"


def test_a_folder_that_cannot_be_made_is_an_error_with_its_name(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SlipstreamError, match="taken"):
        AppendFile(tmp_path / "taken" / "a.csv", HEADER)


def test_the_last_line_is_found_behind_a_long_file(tmp_path):
    file = AppendFile(tmp_path / "a.csv", HEADER)
    assert file.last_line() is None
    file.append(b"".join(b"%d,0\n" % n for n in range(30_000)))
    assert file.last_line() == "29999,0"
    assert Path(file.path).stat().st_size > 200_000
    file.close()
