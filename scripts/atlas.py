"""The page of a model: headline, figures and tables of all its analyses."""

from pathlib import Path

from weight_atlas.atlas.headline import headline
from weight_atlas.atlas.page import Product, fits, page, title_of
from weight_atlas.step import run_step
from weight_atlas.tables import read_json, read_table, write_text


def main(products: list[Path], captions: list[Path], *, page_: Path, model: str) -> None:
    """Write the page.

    products: outputs of the analyses, below the folder that also holds the page's; captions: one .rst an analysis, in
    the order of the sections.
    """
    results = page_.parent.parent
    tables, sections = {}, []
    for caption in captions:
        paths = [path for path in products if path.is_relative_to(results / caption.stem)]
        folders = [path for path in paths if path.is_dir()]
        frames = {path: read_table(path) for path in paths if path.suffix == ".csv"}
        summaries = {path: read_json(path) for path in paths if path.suffix == ".json"}
        tables[caption.stem] = {path.name: content for path, content in {**frames, **summaries}.items()}
        sections.append(
            Product(
                name=caption.stem,
                caption=caption.read_text(encoding="utf-8"),
                figures=[_link(path, results) for path in paths if path.suffix == ".png"],
                files=[_link(path, results) for path in paths if path.suffix != ".png" and path not in folders],
                more=[_link(path, results) for folder in folders for path in sorted(folder.glob("*.png"))],
                tables={title_of(path.stem): table for path, table in frames.items() if fits(table)},
            )
        )
    write_text(page_, page(model, headline(tables), sections))


def _link(path: Path, results: Path) -> str:
    return f"../{path.relative_to(results).as_posix()}"


if __name__ == "__main__":
    run_step(main, globals())
