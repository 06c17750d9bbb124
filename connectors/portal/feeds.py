"""The datasets that are followed at the city's portal: what is asked for, how often, how far back again."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final, NamedTuple

from connectors.files.datasets import CRIMES, REQUESTS, SHOTSPOTTER, VICTIMS, Dataset

_OURS: Final = frozenset({"simulated", "validity"})
"""Columns of simulated files, which no portal has."""
_NO_VOCABULARY: Final[Mapping[str, frozenset[str]]] = MappingProxyType({})


class Feed(NamedTuple):
    """One dataset at the portal.

    `overlap`: how far before the newest row that we have each pass begins, because rows appear late.
    `vocabulary`: columns whose values decide what becomes of a row, with the values that we know, in capitals.
    """

    name: str
    dataset: Dataset
    every: timedelta
    overlap: timedelta
    vocabulary: Mapping[str, frozenset[str]] = _NO_VOCABULARY

    @property
    def id(self) -> str:
        """The portal's id of the dataset."""
        return self.dataset.portal_id

    @property
    def columns(self) -> frozenset[str]:
        """All that is ever asked for, beside the portal's own `:id` and `:updated_at`. No column about a person."""
        return self.dataset.columns - _OURS

    @property
    def essential(self) -> frozenset[str]:
        """Columns without which no row says anything to us."""
        return self.dataset.signature & self.columns

    @property
    def source(self) -> str:
        """Its name in the outbox."""
        return f"door/portal/{self.name}"


FEEDS: Final = (
    Feed(
        "victims", VICTIMS, timedelta(hours=1), timedelta(days=1),
        MappingProxyType({
            "victimization_primary": frozenset({
                "HOMICIDE", "BATTERY", "ASSAULT", "NON-FATAL", "ROBBERY", "CRIMINAL SEXUAL ASSAULT",
                "CRIM SEXUAL ASSAULT",
            }),
            "gunshot_injury_i": frozenset({"YES", "NO", "Y", "N"}),
        }),
    ),
    Feed("shotspotter", SHOTSPOTTER, timedelta(days=1), timedelta(days=1)),
    Feed("crimes", CRIMES, timedelta(hours=6), timedelta(days=1)),
    Feed(
        "requests", REQUESTS, timedelta(minutes=15), timedelta(hours=6),
        MappingProxyType({
            "status": frozenset({
                "OPEN", "COMPLETED", "CANCELED", "CANCELLED", "OPEN - DUP", "COMPLETED - DUP", "CANCELED - DUP",
            }),
        }),
    ),
)  # fmt: skip
"""The schedule follows the city's own: victims and crimes are published once a day, requests several times; ShotSpotter
ended in 2024. The portal tells at once when nothing is new."""


def feed_named(name: str) -> Feed | None:
    """By our name or by the portal's id, None when it is no dataset that we read."""
    return next((feed for feed in FEEDS if name in (feed.name, feed.id)), None)
