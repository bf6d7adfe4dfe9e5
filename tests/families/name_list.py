"""Name lists: what tiny models of each family look like on disk, and the role that each tensor has.

A list is a text file. Its first line names a model class of transformers, its model type and its configuration; the
others give, for each pattern of names (N stands for any number), the shapes and the roles. The rest of a file is
written from its first line by `python tests/families/name_list.py NAME`, and then read by a person.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "names"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))


@dataclass(frozen=True)
class NameList:
    """One list: how to build the model, and what its tensors are: pattern -> (shapes, roles)."""

    name: str
    model_class: str
    model_type: str
    overrides: dict
    rows: dict[str, tuple[str, str]]

    def build(self):
        """The tiny model, its weights drawn at random with a fixed seed, the ones that begin as constants included."""
        import torch
        import transformers

        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(self.model_type, **self.overrides)
        model = getattr(transformers, self.model_class)(config).eval()
        with torch.no_grad():
            for module in model.modules():
                # A table of sines is computed, not trained, and rotates position 0 by no angle.
                for parameter in () if "Sinusoidal" in type(module).__name__ else module.parameters(recurse=False):
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return model


def read_list(name: str) -> NameList:
    """Read one list by its name."""
    first, *lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    model_class, model_type, overrides = first.split(maxsplit=2)
    rows = {pattern: (shapes, roles) for pattern, shapes, roles in (line.split() for line in lines)}
    return NameList(name, model_class, model_type, json.loads(overrides), rows)


def rows_of(inventory: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """An inventory as a list has it."""
    by_tensor: dict[str, list] = {}
    for row in inventory.itertuples():
        if not row.note.startswith("not stored"):
            by_tensor.setdefault(row.tensor, []).append(row)
    found: dict[str, tuple[set[str], set[str]]] = {}
    for tensor, pieces in by_tensor.items():
        shapes, roles = found.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "N", tensor), (set(), set()))
        shapes.add(pieces[0].stored_shape or "scalar")
        roles.add(",".join(dict.fromkeys(map(_role, pieces))))
    return {
        pattern: ("|".join(sorted(shapes)), "|".join(sorted(kinds)))
        for pattern, (shapes, kinds) in sorted(found.items())
    }


def _role(row) -> str:
    role = f"{row.role}:{row.of_role}" if row.of_role else row.role
    return role + (f"({row.component.replace(' ', '_')})" if row.component else "")


def write_list(wanted: NameList, rows: dict[str, tuple[str, str]]) -> None:
    """Write a list, aligned."""
    widths = [max(len(row[column]) for row in [(p, *r) for p, r in rows.items()]) for column in (0, 1)]
    lines = [
        f"{pattern:{widths[0]}}  {shapes:{widths[1]}}  {roles}" for pattern, (shapes, roles) in sorted(rows.items())
    ]
    head = f"{wanted.model_class} {wanted.model_type} {json.dumps(wanted.overrides, sort_keys=True)}"
    (FOLDER / f"{wanted.name}.txt").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


def main(names: list[str]) -> None:
    """Rewrite lists from their first lines and the family tables."""
    import tempfile

    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.families.inventory import inventory

    for name in names:
        wanted = read_list(name)
        with tempfile.TemporaryDirectory() as folder:
            wanted.build().save_pretrained(folder)
            write_list(wanted, rows_of(inventory(Checkpoint.from_folder(Path(folder)))))


if __name__ == "__main__":
    main(sys.argv[1:] or NAMES)
