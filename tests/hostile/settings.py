"""Bad files of settings, to the program's own readers; Snakemake reads its configuration before them."""

from collections.abc import Iterator

from hostile.lies import LONG, Case
from hostile.valid import CONFIGURATION


def settings() -> Iterator[Case]:
    """Files of settings, to the program's own readers; Snakemake reads its configuration before them."""
    for what, content in (
        ("a list", b"[]"),
        ("a text", b"x"),
        ("a number", b"5"),
        ("a tab", b"models:\n\tx: 1"),
        ("an open bracket", b"models: ["),
        ("no UTF-8", b"\xff\xfe\x00"),
        ("NUL", b"models: \x00"),
        ("an escape", b"models: \x1b[31m"),
        ("Python", b"models: !!python/object/apply:os.system ['true']"),
        ("a Python name", b"x: !!python/name:os.system"),
        ("a tag", b"models: !x {}"),
        ("an unknown alias", b"models: *x"),
        ("two documents", b"a: 1\n---\nb: 2\n"),
        ("a key twice", CONFIGURATION + b"models: {}\n"),
        ("an unknown key", CONFIGURATION + b"modles: {}\n"),
        ("a list as a key", b"? [a]\n: b\n"),
        ("a mapping as a key", b"? {a: b}\n: c\n"),
        ("nested", b"models: " + b"[" * 500 + b"]" * 500),
        ("5000 digits", b"models: {a: {source: bundled:demo}}\nseed: " + LONG.encode()),
        ("a model that contains itself", b"models: &a {x: *a}"),
        ("a list that contains itself", b"models: {a: {source: bundled:demo, analyses: &a [*a]}}"),
        (
            "aliases that unfold to 10^9",
            b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 10)) for n in range(98, 107))
            + b"models: {m: {source: bundled:demo, analyses: *j}}\n",
        ),
        ("a date", b"models: {2024-01-01: {source: bundled:demo}}"),
        ("bytes", b"models: {a: {source: !!binary aGk=}}"),
        ("a set", b"models: !!set {a}"),
        ("infinity", b"models: {a: {source: bundled:demo}}\nsingular_values: {parts: .inf}"),
        ("models that are a list", b"models: [a]"),
        ("a model that is a text", b"models: {a: b}"),
        ("no source", b"models: {a: {}}"),
        ("a source that is a number", b"models: {a: {source: 5}}"),
        ("NUL in a source", b'models: {a: {source: "a\\0b"}}'),
        ("half a character", b'models: {a: {source: "\\ud800"}}'),
        ("an unknown scheme", b"models: {a: {source: ftp://x/y}}"),
        ("a file of the hub that is none", b"models: {a: {source: hf://a/b/../../c.pt}}"),
        ("dots on the hub", b"models: {a: {source: hf://../x}}"),
        ("a name that goes up", b"models: {../a: {source: bundled:demo}}"),
        ("a name with a slash", b"models: {a/b: {source: bundled:demo}}"),
        ("an empty name", b"models: {'': {source: bundled:demo}}"),
        ("a name of 5000 letters", b"models: {" + b"a" * 5000 + b": {source: bundled:demo}}"),
        ("a name with an escape", b'models: {"a\\e[31m": {source: bundled:demo}}'),
        ("a name with braces", b"models: {'a{b}': {source: bundled:demo}}"),
        ("a name with a quote", b'models: {"a\'b": {source: bundled:demo}}'),
        ("$(id) as a name", b"models: {$(id): {source: bundled:demo}}"),
        ("results nowhere", b"models: {a: {source: bundled:demo}}\npathvars: {results: ''}"),
        ("a corpus of nothing", b"models: {a: {source: bundled:demo}}\ncorpora: {c: {source: ['']}}"),
        ("a corpus that goes up", b"models: {a: {source: bundled:demo}}\ncorpora: {../c: {source: x.txt}}"),
        ("a corpus of an unknown kind", b"models: {a: {source: bundled:demo}}\ncorpora: {c: {source: bundled:x}}"),
        ("a data set that goes up", b"models: {a: {source: bundled:demo}}\ncorpora: {c: {source: 'hf:../x'}}"),
    ):
        yield f"configuration: {what}", "configuration", {"c.yaml": content}
    for what, content in (
        ("a list", b"[]x"),
        ("a number", b"5"),
        ("a text", b"x"),
        ("no UTF-8", b"\xff"),
        ("Python", b"x: !!python/name:os.system"),
        ("an open bracket", b"limits: ["),
        ("nested", b"[" * 500),
        ("an unknown key", b"limit: {}"),
        ("an unknown metric", b"limits: {effective_rank.x: {least: 1}}"),
        ("an unknown grade", b"grades: {a: bad}"),
        ("a limit that is a text", b"limits: {effective_rank.r: {least: a}}"),
        ("a limit that is NaN", b"limits: {effective_rank.r: {least: .nan}}"),
        ("a list as a key", b"? [a]\n: b\n"),
        ("a date", b"limits: {effective_rank.r: {least: 2024-01-01}}"),
        ("an escape", b"x: \x1b[31m"),
        ("5000 digits", b"limits: {effective_rank.r: {least: %s}}" % LONG.encode()),
    ):
        yield f"thresholds: {what}", "thresholds", {"t.yaml": content}
    head = b"name\tsource\n"
    for what, content in (
        ("nothing", b""),
        ("no UTF-8", b"\xff\n"),
        ("a head without a name", b"source\nbundled:demo\n"),
        ("a column twice", b"name\tname\na\tb\n"),
        ("an unknown column", b"name\tsource\tsauce\na\tbundled:demo\tx\n"),
        ("a section that is no section", b"name\tsource\tsource.x\na\tbundled:demo\tx\n"),
        ("an endless cell", head + b"a\t" + b"x" * 200_000 + b"\n"),
        ("a NUL", head + b"a\tx\0y\n"),
        ("an escape", head + b"a\x1b[31m\tbundled:demo\n"),
        ("a formula", head + b"=1+1\tbundled:demo\n"),
        ("markup", head + b"<script>alert(1)</script>\tbundled:demo\n"),
        ("a name from right to left", head + "\u202eomed\tbundled:demo\n".encode()),
        ("a name that goes up", head + b"../a\tbundled:demo\n"),
        ("a name twice", head + b"a\tbundled:demo\na\tbundled:demo\n"),
        ("more cells", head + b"a\tbundled:demo\tx\n"),
        ("5000 digits", b"name\tsource\tsuper_weights.spike_threshold\na\tbundled:demo\t" + LONG.encode() + b"\n"),
        ("a source that goes up on the hub", head + b"a\thf://../x\n"),
    ):
        yield f"table of models: {what}", "models_table", {"models.tsv": content}
