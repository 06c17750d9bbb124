"""Mapping files that change while processes run: taken up when they are right, kept as they were when they are not."""

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.mapping.mapping import SourceMapping
from connectors.mapping.parts import SourceParts
from connectors.postgres.sources import Records
from infra.serve import Current, follow_sources, sources_of
from infra.settings import Settings
from infra.sources.live import WRONG, WRONG_AND_KEPT, LiveSources
from infra.sources.load import load_sources
from infra.sources.overview import KEPT, lines
from schemas.policy import Policy
from tests.http.conftest import until
from tests.sources.conftest import EXAMPLES, NOW, Drop, calls

NOTHING = Records([], [], [], [], [], [])
Edit = Callable[[str, str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "sources"
    shutil.copytree(EXAMPLES, made)
    return made


@pytest.fixture
def live(folder: Path, policy: Policy) -> LiveSources:
    return LiveSources(folder, lambda: policy)


@pytest.fixture
def edit(folder: Path) -> Edit:
    def edited(old: str, new: str) -> None:
        file = folder / "cad.yaml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edited


def test_nothing_is_read_while_nothing_changes(live: LiveSources, folder: Path) -> None:
    before = live.found
    assert not live.look()
    assert live.found is before
    (folder / "cad.sample.csv").write_text(calls(1))  # samples belong to their mappings
    assert live.look()


def test_a_changed_a_new_and_a_removed_file_are_taken_up(live: LiveSources, folder: Path, edit: Edit) -> None:
    before = live.found.right["cad"].version
    edit("block: BLOCK", "block: {column: BLOCK, optional: true}")
    text = (folder / "cad.yaml").read_text()
    (folder / "rms.yaml").write_text(text.replace("source: cad", "source: rms"))
    (folder / "shotspotter-live.yaml").unlink()
    with capture_logs() as logs:
        assert live.look()
    assert sorted(live.found.right) == ["cad", "rms"]
    assert live.found.right["cad"].version != before
    assert [(one["event"], one["source"]) for one in logs] == [
        ("a mapping is in force", "cad"), ("a mapping is in force", "rms"),
        ("a mapping file is gone: its source is left out", "shotspotter-live"),
    ]  # fmt: skip


def test_of_one_that_is_wrong_the_last_good_one_is_kept_and_it_is_told_once(
    live: LiveSources, folder: Path, edit: Edit
) -> None:
    good = live.found.right["cad"]
    edit("source: cad", "source: [")  # not even its source can be read
    with capture_logs() as logs:
        assert live.look()
        (folder / "note.txt").write_text("the folder is another one now")
        assert live.look()
    assert [(one["event"], one["mapping"]) for one in logs] == [(WRONG_AND_KEPT, "cad")]
    assert live.found.right["cad"] is good
    [line] = [one for one in lines(live.found, NOTHING, False, NOW) if one.source == "cad"]
    assert line.configured
    assert line.problem is not None
    assert line.problem.startswith("cad.yaml:")
    assert line.problem.endswith(KEPT)
    edit("source: [", "source: cad")
    with capture_logs() as logs:
        assert live.look()
    assert (live.found.wrong, logs) == ({}, [])


def test_a_new_file_that_is_wrong_is_left_out_and_the_others_hold(live: LiveSources, folder: Path) -> None:
    (folder / "rms.yaml").write_text("source: rms\n")
    with capture_logs() as logs:
        assert live.look()
    assert [(one["event"], one["mapping"]) for one in logs] == [(WRONG, "rms")]
    assert sorted(live.found.right) == ["cad", "shotspotter-live"]
    [line] = [one for one in lines(live.found, NOTHING, False, NOW) if one.source == "rms"]
    assert line.what == "a mapping file that is wrong"


def test_a_folder_that_is_away_takes_nothing_back(live: LiveSources, folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    assert live.look()
    assert sorted(live.found.right) == ["cad", "shotspotter-live"]
    [(_, errors)] = live.found.wrong.items()
    assert "cannot be read" in errors.sentence
    folder.with_name("moved").rename(folder)
    assert live.look()
    assert live.found.wrong == {}


def test_another_policy_is_a_reason_to_check_again(folder: Path, policy: Policy) -> None:
    current = Current(policy)
    live = LiveSources(folder, current)
    current.policy = policy.model_copy(update={"version": "another"})
    assert live.look()
    assert not live.look()


def test_a_file_that_cannot_be_read_has_the_name_of_its_file_and_disturbs_no_other(
    folder: Path, policy: Policy
) -> None:
    (folder / "cad.yaml").rename(folder / "calls.yaml")
    (folder / "cad.yaml").write_text("source: [")
    found = load_sources(folder, policy)
    assert sorted(found.right) == ["cad", "shotspotter-live"]
    assert list(found.wrong) == ["cad"]


async def test_the_next_file_is_read_by_the_new_mapping_and_the_one_under_way_by_the_old(
    drop: Drop, cad: SourceMapping, edit: Edit, live: LiveSources
) -> None:
    edit("PERSON SHOT: assault", "PERSON SHOT: homicide")
    assert live.look()
    new = live.found.right["cad"]
    picker = drop.picker()
    refuse = picker.refuse

    def refuse_and_change(report: Any, now: Any) -> Any:
        picker.mapping = new  # while the first file is being read
        return refuse(report, now)

    picker.refuse = refuse_and_change
    drop.put("a.csv", calls(3))
    await picker.look()
    drop.put("b.csv", calls(3, first=10))
    drop.clock.at_s += 3
    await picker.look()
    drop.clock.at_s += 3
    await picker.look()
    reports = {
        name: json.loads((drop.path / "processed" / f"{name}.report.json").read_text())["mapping"]
        for name in ("a.csv", "b.csv")
    }
    assert reports == {"a.csv": cad.version, "b.csv": new.version}


@dataclass(frozen=True)
class Parts:
    sources: SourceParts


class App:
    """As much of an app as is changed."""

    def __init__(self, parts: Any) -> None:
        self.state = type("State", (), {"parts": parts})()


async def test_the_api_answers_by_the_new_mapping_from_the_next_request_on(
    folder: Path, policy: Policy, live: LiveSources
) -> None:
    settings, current = Settings(sources=folder), Current(policy)
    app: Any = App(Parts(sources_of(settings, live, current)))
    began = app.state.parts
    following = asyncio.create_task(follow_sources(app, settings, live, current, every_s=0.01))
    try:
        text = (folder / "shotspotter-live.yaml").read_text()
        (folder / "rms.yaml").write_text(text.replace("source: shotspotter-live", "source: rms"))
        await until(lambda: "rms" in app.state.parts.sources.mappings)
        (folder / "rms.yaml").write_text("source: rms\n")
        (folder / "new.yaml").write_text("source: new\n")
        await until(lambda: bool(app.state.parts.sources.wrong))
    finally:
        following.cancel()
    assert list(app.state.parts.sources.wrong) == ["new"]
    assert "rms" in app.state.parts.sources.mappings  # the last good one
    assert "rms" not in began.sources.mappings  # what is being answered goes on with what it has
