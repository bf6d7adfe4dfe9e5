import pytest

from weight_atlas.tokens.prose import fingerprint, paragraphs

SENTENCE = "The first paragraph tells in plain words what the function does with its arguments and why."


def module(docstring: str) -> bytes:
    return f'"""{docstring}"""\n'.encode()


def test_paragraphs_of_a_docstring_lose_their_markup():
    text = """Return the :class:`~package.Thing` that belongs to ``name``, or the *default* one
    where **nothing** of that `name` was ever given to this function.

    Parameters
    ----------
    name : str
        The name of the thing that is looked up in the table of all the things that we know.

    >>> lookup("a") is a thing which stands in an example and so is no prose at all, is it now.
    """
    assert paragraphs(module(text)) == [
        "Return the package.Thing that belongs to name, or the default one where nothing of that name was ever given "
        "to this function.",
        "The name of the thing that is looked up in the table of all the things that we know.",
    ]


def test_a_role_with_a_target_leaves_its_text():
    text = f"See :ref:`the chapter <label>` on this matter first. {SENTENCE}"
    assert paragraphs(module(text)) == [f"See the chapter on this matter first. {SENTENCE}"]


@pytest.mark.parametrize(
    "other",
    [
        "Too short to be prose, whatever it says.",
        "1.0 2.0 3.0 4.0 | 5.0 6.0 7.0 8.0 | this table has more digits and bars than it has words in it 9.0 10.0.",
        "ALL THE WORDS OF THIS PARAGRAPH BEGIN WITH CAPITAL LETTERS AND SO IT IS A HEADING OR A WARNING.",
        "this is a paragraph that never comes to any proper end since no full stop stands behind it at all",
        ".. note:: a directive of the markup language, which is not a sentence although it looks like one to us.",
    ],
)
def test_what_is_not_prose_is_left_out(other):
    assert paragraphs(module(f"{SENTENCE}\n\n{other}")) == [SENTENCE]


def test_order_is_that_of_the_source_and_formatted_strings_are_left_out():
    other = "A second paragraph which stands in another string constant further down in the same file."
    formatted = "A paragraph of a formatted string which names a value that nobody can know before running"
    source = f'def f():\n    x = """{other}"""\n    return f"{formatted} {{x}}."\n\ny = "{SENTENCE}"\n'
    assert paragraphs(source.encode()) == [other, SENTENCE]


def test_source_that_does_not_parse_has_no_prose():
    assert paragraphs(b"def broken(:\n    pass") == []
    assert paragraphs(b"\x00\xff") == []


def test_source_in_another_encoding_is_read_by_its_declaration():
    sentence = SENTENCE.replace("plain", "schön")
    assert paragraphs(f'# coding: latin-1\n"""{sentence}"""\n'.encode("latin-1")) == [sentence]


def test_fingerprint_tells_words_and_nothing_else():
    assert fingerprint("The same words.") == fingerprint("the  same *words*")
    assert fingerprint("The same words.") != fingerprint("The same word.")
