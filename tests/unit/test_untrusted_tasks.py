"""Templates of strangers end, and reach nothing of Python; the rest of their tasks is in test_bad_inputs.py."""

import resource

import pytest
from hostile.campaign import in_use
from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError

from weight_atlas.ablations import untrusted
from weight_atlas.ablations.untrusted import Templates


@pytest.fixture
def filled(monkeypatch):
    """Fill in a template, within a fifth of a second and 100 MB."""
    monkeypatch.setattr(untrusted, "_SECONDS", 0.2)
    monkeypatch.setattr(untrusted, "_MEMORY", 100_000_000)
    templates = Templates(undefined=StrictUndefined)
    return lambda text, **values: templates.from_string(text).render(q="cat", **values)


def test_what_tasks_do_with_templates(filled):
    assert filled("{{ q.strip() | upper }}: {{ ['a', 'b'][1] }}, {{ '%s' % 2 ** 3 }}") == "CAT: b, 8"
    assert filled("{% for x in range(3) %}{{ x }}{% endfor %}") == "012"
    assert (
        filled(
            "{% set ns = namespace(n=0) %}{% for x in xs %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", xs=[1, 2]
        )
        == "3"
    )


@pytest.mark.parametrize(
    "text",
    [
        "{{ q.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{{ q | attr('__class__') }}",
        "{{ '{0.__class__.__mro__}'.format(q) }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_nothing_of_python_is_reached(filled, text):
    with pytest.raises(SecurityError):
        filled(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 0 seconds"),
        ("{{ 'x' * 10 ** 12 }}", "more than 1 GB"),
        ("{{ '%99999999999d' % 5 }}", "more than 1 GB"),
        (
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "more than 1 GB",
        ),
        ("{{ 9 ** (9 ** 9) }}", "the power of"),
        ("{{ 'x' * 20000000 }}", "more than 10000000"),
    ],
)
def test_templates_end(filled, text, message):
    with pytest.raises(ValueError, match=message):
        filled(text)
    assert filled("{{ q }}") == "cat", "and others are filled in afterwards"


def test_a_limit_of_the_process_stays(filled):
    """As `ulimit -v` of a cluster's job sets it, below what a template would be given."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = (in_use() + 50_000_000, before[1])
    resource.setrlimit(resource.RLIMIT_AS, limit)
    try:
        assert filled("{{ q }}") == "cat"
        assert resource.getrlimit(resource.RLIMIT_AS) == limit
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
