"""Policies that differ from the shipped one in something that decides."""

import shutil
from pathlib import Path

from infra.policy.load import SHIPPED


def changed(folder: Path, **files: tuple[str, str]) -> Path:
    """A copy of the shipped policy in `folder`, in which a text is replaced in each named file."""
    shutil.copytree(SHIPPED, folder)
    for name, (old, new) in files.items():
        file = folder / f"{name}.yaml"
        text = file.read_text()
        assert old in text, f"{name}.yaml has no {old!r} any more"
        file.write_text(text.replace(old, new))
    return folder


def tighter(folder: Path) -> Path:
    """Smaller zones, other weights, another owner of graffiti, shorter promises."""
    return changed(
        folder,
        plans=("radius_m: 244", "radius_m: 150"),
        severity=("nonfatal_shooting:", "nonfatal_shooting: 5  #"),
        sla=("{clock: resolve, budget: 4wd", "{clock: resolve, budget: 3wd"),
    )


DEPARTMENT = """  - code: parks
    name: Park District
    source_names: []

# Work that nobody owns"""


def with_parks(folder: Path) -> Path:
    """One department more."""
    return changed(folder, departments=("\n# Work that nobody owns", DEPARTMENT))


def without_buildings(folder: Path) -> Path:
    """No Department of Buildings: its work is Streets and Sanitation's."""
    made = changed(
        folder,
        departments=(
            "  - code: dob\n    name: Department of Buildings\n    source_names: [DOB - Buildings]\n", "",
        ),
        categories=("department: dob", "department: dss"),
        orders=("    dob: 20\n", ""),
    )  # fmt: skip
    oncall = made / "oncall.yaml"
    lines = [line for line in oncall.read_text().splitlines() if "departments: [dob]" not in line]
    oncall.write_text("\n".join(lines) + "\n")
    return made
