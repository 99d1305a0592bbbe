"""The commands `release ...`, run as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from serving.proto.generate import ROOT
from serving.release import folder_fingerprint, list_versions, verify_release, write_release
from serving.state import read_state
from tests.unit.serving.tiny import SPEC, save_index


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """Three releases of a configuration `tmp_path`/config.yaml."""
    model, root = tmp_path / "model", tmp_path / "runs" / "m" / "releases"
    model.mkdir()
    (model / "saved_model.pb").write_text("a model")
    index = save_index(tmp_path / "index", folder_fingerprint(model), {"a": [1, 2]})
    for n in range(3):
        write_release(root, model_name="m", features=SPEC, model=model, index=index, queries=[(b"%d" % n, b"")])
    tree = yaml.safe_load((ROOT / "configs" / "movielens.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**tree, "name": "m", "root": str(tmp_path / "runs")}))
    return root


class Cli:
    def __init__(self, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self.monkeypatch, self.capsys = config, monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        line = ["retrieval", "release", *map(str, arguments), "--config", str(self.config)]
        self.monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as raised:
            cli.main()
        out, err = self.capsys.readouterr()
        assert isinstance(raised.value.code, int)
        return raised.value.code, out, err


@pytest.fixture
def release(tmp_path: Path, releases: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("serving.canary.try_release", verify_release)  # the model is none
    return Cli(tmp_path / "config.yaml", monkeypatch, capsys)


def test_a_day_of_an_operator(release: Cli, releases: Path) -> None:
    one, two, three = list_versions(releases)
    assert release("rollback") == (0, f"pinned: version {two}\n", "")
    assert release("promote", three) == (0, "the newest release answers\n", "")
    assert release("promote", one) == (0, f"pinned: version {one}\n", "")
    assert release("promote", "--latest") == (0, "the newest release answers\n", "")
    assert release("rollback", "--to", one) == (0, f"pinned: version {one}\n", "")
    assert release("promote", two, "--label", "stable") == (0, f"pinned: version {one}\nlabels: stable {two}\n", "")
    done = release("promote", three, "--label", "canary", "--traffic", "stable=90", "--traffic", "canary=10")
    labels = f"labels: canary {three}, stable {two}\n"
    assert done == (0, f"traffic: canary 10 %, stable 90 %\n{labels}", "")
    salted = f"traffic: stable 100 %; salt autumn\n{labels}"
    assert release("promote", "--traffic", "stable=100", "--salt", "autumn") == (0, salted, "")
    assert release("promote", "--traffic", "stable=100") == (0, salted, "")
    assert release("unlabel", "canary") == (0, f"traffic: stable 100 %; salt autumn\nlabels: stable {two}\n", "")
    assert release("rollback") == (0, f"pinned: version {one}\nlabels: stable {two}\n", "")
    assert release("promote", "--latest")[0] == 0
    assert release("unlabel", "stable") == (0, "the newest release answers\n", "")
    assert release("prune", "--keep", 1) == (0, f"removed: {one}\n", "")
    assert list_versions(releases) == [two, three]


def test_list(release: Cli, releases: Path) -> None:
    one, two, three = list_versions(releases)
    (releases / str(three) / "saved_model.pb").write_text("broken")
    release("promote", one, "--label", "stable", "--traffic", "stable=100")
    release("rollback", "--to", two)
    release("promote", "--traffic", "stable=100")
    code, out, err = release("list")
    assert (code, err) == (0, "")
    rows = {line.split()[1]: line for line in out.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in rows[str(one)].split("│")[4:8]] == ["stable", "100 %", "", "whole"]
    assert [cell.strip() for cell in rows[str(two)].split("│")[4:8]] == ["", "", "pinned", "whole"]
    assert [cell.strip() for cell in rows[str(three)].split("│")[4:8]] == ["", "", "", "broken"]
    assert f"{three}: {releases / str(three) / 'saved_model.pb'}: has 6 bytes, release.json says 7" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote"], "nothing to promote: give a VERSION, --latest or --traffic"),
        (["promote", 1], "there is no release 1 in"),
        (["promote", 1, "--latest"], "--latest stands alone"),
        (["promote", 1, "--salt", "x"], "--salt goes with --traffic"),
        (["promote", "--traffic", "a=100", "--salt", "a b"], "salt: String should match pattern"),
        (["promote", "--label", "x"], "--label needs a VERSION"),
        (["promote", 1, "--traffic", "a=100"], "a VERSION without --label takes all traffic"),
        (["promote", "--traffic", "a"], "--traffic a: expected LABEL=PERCENT, say canary=10"),
        (["promote", "--traffic", "a=ten"], "--traffic a=ten: expected LABEL=PERCENT"),
        (["promote", "--traffic", "a=1", "--traffic", "a=99"], "--traffic: label 'a' stands twice"),
        (["promote", "--traffic", "a=100"], "label 'a' has a share of the traffic, but no version"),
        (["rollback", "--to", 1], "there is no release 1 in"),
        (["unlabel", "x"], "there is no label 'x'; there is: none"),
    ],
)
def test_refusals(release: Cli, releases: Path, arguments: list, message: str) -> None:
    code, out, err = release(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert read_state(releases).model_dump(exclude_defaults=True) == {}


def test_broken_state(release: Cli, releases: Path) -> None:
    (releases / "state.json").write_text("{")
    for command in (["list"], ["rollback"], ["prune", "--keep", 1], ["promote", "--latest"]):
        code, _, err = release(*command)
        assert code == 1
        assert err.startswith(f"{releases / 'state.json'}: Invalid JSON")


def test_a_root_that_cannot_be_written(release: Cli, releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (releases / ".lock").unlink(missing_ok=True)
    (releases / ".lock").mkdir()  # in tests no permission is lacking
    assert release("prune", "--keep", 1) == (1, "", f"{releases / '.lock'}: Is a directory\n")


def test_no_releases(tmp_path: Path, release: Cli, releases: Path) -> None:
    releases.rename(tmp_path / "away")
    for command in (["list"], ["rollback"], ["prune", "--keep", 1], ["promote", "--latest"]):
        assert release(*command) == (1, "", f"there is no release in {releases}\n")


@pytest.mark.slow
def test_what_tries_no_release_imports_no_tensorflow(tmp_path: Path, releases: Path) -> None:
    code = (
        "import sys, pipeline.cli as cli\n"
        f"sys.argv = ['x', 'release', 'promote', '--latest', '--config', {str(tmp_path / 'config.yaml')!r}]\n"
        "try: cli.main()\n"
        "finally: print([m for m in ('tensorflow', 'scann', 'tfx', 'apache_beam') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "the newest release answers\n[]\n"
