"""What all pages of the atlas share: style, scripts, the library of charts, and the definitions of all numbers."""

from pathlib import Path

from weight_atlas.pages.assets import write_assets
from weight_atlas.workflow.step import run_step


def main(sources: list[Path], *, assets: Path) -> None:
    """Write them into a folder beside the pages. sources: style, scripts and icon."""
    write_assets(sources, assets)


if __name__ == "__main__":
    run_step(main, globals())
