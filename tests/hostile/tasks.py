"""Tasks of lm-evaluation-harness that were made to do harm, or do not fit together."""

from collections.abc import Iterator

from hostile.lies import LONG, Case
from hostile.valid import VALID

# Would leave a file called `ran` where the process works.
CODE = "open('ran', 'w')"


def tasks() -> Iterator[Case]:
    files = VALID["task"]()
    good = files["mine.yaml"].decode()

    def case(what: str, content: str | bytes, more: dict[str, bytes] | None = None) -> Case:
        text = content if isinstance(content, bytes) else content.encode()
        return f"task: {what}", "task", files | {"mine.yaml": text} | (more or {})

    code = {"own.py": f"{CODE}\ndef f(docs):\n    {CODE}\n    return docs\n".encode()}
    yield case("a function", f"{good}process_docs: !function own.f\n", code)
    yield case("a function as class", f"{good}class: !function own.f\n", code)
    yield case("a function of an include", f"include: more.inc\n{good}", code | {"more.inc": b"x: !function own.f\n"})
    yield case("a function as data", f"{good}custom_dataset: !function own.f\n", code)
    yield case("a function of Python", f"{good}process_docs: !function os.system\n")
    yield case("a function as metric", good.replace("metric: acc", "metric: !function own.f"), code)
    yield case("Python", f"{good}process_docs: !!python/object/apply:os.system ['touch ran']\n")
    yield case("a Python name", f"{good}process_docs: !!python/name:os.system\n")
    yield case("a metric of the hub", good.replace("metric: acc", "metric: somebody/metric"))
    yield case("a metric that is a script", good.replace("metric: acc", "metric: ./own.py, hf_evaluate: true"), code)
    yield case("data that is a script", good.replace("path: json", "path: ./own.py"), code)
    yield case("data that is a pickle", good.replace("path: json", "path: pandas"))
    for what, template in {
        "subclasses": "{{ q.__class__.__mro__[1].__subclasses__() }}",
        "globals": "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}",
        "globals by format": "{{ '{0.__class__.__init__.__globals__}'.format(q) }}",
        "globals by attr": "{{ q|attr('__class__') }}",
        "an include": "{% include '/etc/passwd' %}",
        "an import": "{% import 'os' as os %}",
        "no such variable": "{{ nothing }}",
        "no end": "{{ q",
        "gigabytes": "{{ 'x' * 10**11 }}",
        "a wide format": "{{ '%99999999999d' % 5 }}",
        "doubling": "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "a great power": "{{ (9 ** (9 ** 9)) % 2 }}",
        "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "a slow pattern": "{{ ('a' * 40 ~ '!') | regex_replace('(a+)+$', '') }}",
        "itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    }.items():
        yield case(f"a template with {what}", good.replace("{{q}}", template.replace('"', "'")))
    for what, choices in (("nested", "[" * 100_000), ("an expression", "{{ q }}.__class__"), ("a number", "5")):
        yield case(f"choices that are {what}", good.replace("{{[a, b]}}", choices))
    for what, content in (
        ("nothing", b""),
        ("a list", b"- mine\n"),
        ("no UTF-8", b"task: mine\nx: \xff\n"),
        ("nested", b"task: mine\nx: " + b"[" * 5000 + b"]" * 5000),
        ("5000 digits", f"{good}x: {LONG}\n".encode()),
        ("itself inside", f"{good}metadata: &a {{x: *a}}\n".encode()),
        ("aliases", f"{good}metadata:\n  a: &a [x,x,x,x,x,x,x,x,x,x]\n".encode() + _BOMB),
        ("an include of itself", f"include: mine.yaml\n{good}".encode()),
        ("an include of a device", f"include: /dev/zero\n{good}".encode()),
        ("an include of what is not there", f"include: gone.yaml\n{good}".encode()),
        ("an include of a folder", f"include: /etc\n{good}".encode()),
        ("an include of a long name", f"include: {'a' * 5000}\n{good}".encode()),
        ("no task", good.replace("task: mine", "tusk: mine").encode()),
        ("a number as task", good.replace("task: mine", "task: 5").encode()),
        ("no such split", good.replace("test_split: test", "test_split: x").encode()),
        ("no such column", good.replace("{{q}}", "{{gone}}").encode()),
        ("no such kind", good.replace("multiple_choice", "strange").encode()),
        ("many examples", f"{good}num_fewshot: 1000000000\n".encode()),
        ("many repeats", f"{good}repeats: 1000000000\n".encode()),
        ("data that is not there", good.replace("rows.jsonl", "gone.jsonl").encode()),
        ("data that is a device", good.replace("rows.jsonl", "/dev/zero").encode()),
    ):
        yield case(what, content)
    for what, rows in (("nothing", b""), ("no JSON", b"\xff\n"), ("a list", b"[]\n"), ("zeros", bytes(1000))):
        yield f"task: data that is {what}", "task", files | {"rows.jsonl": rows}


_BOMB = b"".join(b"  %c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 10)) for n in range(98, 107))
