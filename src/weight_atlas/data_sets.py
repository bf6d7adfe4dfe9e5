"""The data sets library, quiet: in logs, and on the network."""

from types import ModuleType

from weight_atlas.errors import missing_extra


def data_sets_library() -> ModuleType:
    """Return the module `datasets`, which then draws no progress bars and tells nobody what is loaded.

    By itself it counts every load, of local files as well, by a request to a server of its makers.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error

    datasets.disable_progress_bars()
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    return datasets
