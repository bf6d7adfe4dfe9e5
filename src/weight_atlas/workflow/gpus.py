"""The GPUs that this process may use, by whatever names they are given. Light: the workflow asks for every run.

CUDA_VISIBLE_DEVICES may name a card by its index, its UUID or the beginning of that, and a slice of a card (MIG) by the
slice's UUID or, as older drivers do, by its card's UUID and two numbers. nvidia-smi says what these are; where it is
missing, names are taken as they stand.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_QUERY = ("index", "uuid", "memory.used", "mig.mode.current")
_SECONDS = 60  # a driver that has to wake its cards takes some


@dataclass(frozen=True)
class Device:
    """What CUDA counts as one device.

    name: for CUDA_VISIBLE_DEVICES. card: the UUID of the card, or its name where that is unknown. slice: the UUID of a
    slice of the card, "" for the whole of it. used: MiB of the card's memory that are taken.
    """

    name: str
    card: str
    slice: str = ""
    used: int = 0


def visible_devices() -> list[Device]:
    """The CUDA devices that this process may use, in CUDA's order.

    As CUDA does, the list of CUDA_VISIBLE_DEVICES is read up to the first name that is no device; -1 is none.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None and not _could_be_device(named.split(",")[0].strip()):
        return []  # no need to ask
    cards = _cards()
    if named is None:
        return [device for card in cards for device in card.devices]
    return _named(named, cards)


@dataclass(frozen=True)
class _Card:
    """A card of this machine, and its devices: itself, or its slices if it is cut into such."""

    index: str
    whole: Device
    slices: tuple[Device, ...] = ()

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.slices or (self.whole,)


def _named(names: str, cards: Sequence[_Card]) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES names; none where it names one twice, as for CUDA."""
    found: list[Device] = []
    for name in (each.strip() for each in names.split(",")):
        device = _device(name, cards) if _could_be_device(name) else None
        if device is None:
            break
        found.append(device)
    own = {(device.card, device.slice) for device in found}
    return found if len(own) == len(found) else []


def _could_be_device(name: str) -> bool:
    return name.isdecimal() or name.startswith(("GPU-", "MIG-"))


def _device(name: str, cards: Sequence[_Card]) -> Device | None:
    """The device of a name, None for one that is not of this machine."""
    if not cards:
        return Device(name, str(int(name)) if name.isdecimal() else name)
    if name.isdecimal():
        # Of a card that is cut into slices CUDA takes the first one.
        held = [card.devices[0] for card in cards if card.index == str(int(name))]
    elif old := re.match(r"MIG-(GPU-[^/]+)/", name):
        exact = [device for card in cards for device in card.slices if device.slice == name]
        # A driver that names slices otherwise does not say which one this is: the card stands for it.
        held = exact or [card.whole for card in cards if card.whole.card == old[1]]
    else:
        every = [device for card in cards for device in (card.whole, *card.slices)]
        held = [device for device in every if (device.slice or device.card).startswith(name)]
    return Device(name, held[0].card, held[0].slice, held[0].used) if len(held) == 1 else None


def _cards() -> list[_Card]:
    """The cards of this machine, [] where nvidia-smi is missing or fails."""
    rows = [[cell.strip() for cell in line.split(",")] for line in _asked(f"--query-gpu={','.join(_QUERY)}")]
    rows = [row for row in rows if len(row) == len(_QUERY) and row[0].isdecimal()]
    slices = _slices(_asked("--list-gpus", form=None)) if any(row[3] == "Enabled" for row in rows) else {}
    cards = []
    for index, card, used, _ in rows:
        taken = int(used) if used.isdecimal() else 0  # cards that share the machine's memory report none
        of_card = tuple(Device(each, card, each, taken) for each in slices.get(card, ()))
        cards.append(_Card(index, Device(card, card, used=taken), of_card))
    return cards


def _asked(query: str, form: str | None = "csv,noheader,nounits") -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", query, *([f"--format={form}"] if form else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _slices(lines: Sequence[str]) -> dict[str, list[str]]:
    """The UUIDs of a card's slices, by the card's UUID, from nvidia-smi's list: a card a line, its slices below it."""
    found: dict[str, list[str]] = {}
    card = ""
    for line in lines:
        if match := re.search(r"\(UUID:\s*(GPU-[^)\s]+)\)", line):
            card = match[1]
        elif match := re.search(r"\(UUID:\s*(MIG-[^)\s]+)\)", line):
            found.setdefault(card, []).append(match[1])
    return found
