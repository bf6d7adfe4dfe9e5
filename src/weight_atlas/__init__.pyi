from weight_atlas.api import Model as Model
from weight_atlas.api import open as open
from weight_atlas.api.scope import Scope as Scope
from weight_atlas.errors import AtlasError as AtlasError
from weight_atlas.errors import NotApplicable as NotApplicable
from weight_atlas.tokens.corpora import read_corpus as read_corpus

__version__: str
