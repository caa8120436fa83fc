"""The units: systemd understands each line, they start what is installed, and let it do no more than is written."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is not installed: the units were NOT verified"
)


def settings_of(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there in place of the one that would be installed."""
    for path in (*SERVICES, *DEPLOY.glob("*.timer")):
        text = path.read_text()
        (tmp_path / path.name).write_text(
            re.sub(r"^(ExecStart=)/opt/postern/bin/\S+", r"\1/bin/true", text, flags=re.M)
        )
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *map(str, arguments)], capture_output=True, text=True)


@needs_systemd
def test_systemd_understands_every_line(units: Path) -> None:
    done = analyze("verify", "--man=no", *sorted(units.iterdir()))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_a_slip_is_found(units: Path) -> None:
    """What the test above stands on."""
    unit = units / "postern.service"
    unit.write_text(unit.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in analyze("verify", "--man=no", unit).stderr


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_the_exposure_is_as_documented(units: Path, path: Path) -> None:
    told = re.search(rf"^\| `{re.escape(path.name)}` \| ([\d.]+) \|$", (ROOT / "docs/install.md").read_text(), re.M)
    said = analyze("security", "--offline=true", "--threshold=100", units / path.name).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert told and found, said
    assert float(found[1]) <= float(told[1])


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_no_unit_runs_as_root_or_has_a_capability(path: Path) -> None:
    found = settings_of(path.read_text())
    assert found["User"] in (["postern"], ["postern-node"])
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == [""]
    assert found["ProtectSystem"] == ["strict"] and found["NoNewPrivileges"] == ["yes"]
    assert "ReadWritePaths" not in found


def test_low_ports_are_the_one_capability_that_is_given() -> None:
    found = settings_of((DEPLOY / "low-ports.conf").read_text())
    assert found == {
        "CapabilityBoundingSet": ["CAP_NET_BIND_SERVICE"],
        "AmbientCapabilities": ["CAP_NET_BIND_SERVICE"],
        "PrivateUsers": ["no"],
    }


def test_what_the_units_start_is_what_the_wheel_installs() -> None:
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2].partition("\n\n")[0]
    started = {name for path in DEPLOY.iterdir() for name in re.findall(r"/opt/postern/bin/([\w-]+)", path.read_text())}
    assert {"postern", "postern-node"} <= started
    assert started - {"pip"} <= set(re.findall(r"^([\w-]+) = ", scripts, re.M))


def test_the_image_runs_as_nobody_in_particular_and_holds_no_settings() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert not re.search(r"SECRET_KEY|MASTER_KEY|PASSWORD", text)
    assert all((ROOT / name).exists() for name in copied_into_the_image())


def copied_into_the_image() -> set[str]:
    text = (DEPLOY / "Containerfile").read_text()
    return {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M) for name in line.split()}


def test_the_image_is_built_from_all_that_the_wheel_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], "pyproject.toml"}
    assert len(needed) > 5 and needed <= copied_into_the_image()
