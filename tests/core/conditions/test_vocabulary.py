import pytest

from tessera.core.conditions.vocabulary import Vocabulary

VOCABULARY = Vocabulary(
    ("flat", "noto"),
    ("strawberry", "fruit", "red", "crown", "ice cream", "ice"),
    {"fresa": "strawberry", "corona": "crown", "helado": "ice cream"},
)


def words(text: str, most: int = 8) -> list[str]:
    return [VOCABULARY.words[number] for number in VOCABULARY.read(text, most).words]


def test_a_sentence_gives_its_known_words_in_order():
    assert words("A red Strawberry, with a crown!") == ["red", "strawberry", "crown"]


def test_both_languages_give_the_same_numbers():
    assert VOCABULARY.read("una fresa con corona", 8) == VOCABULARY.read("a strawberry with a crown", 8)


def test_the_longest_phrase_wins():
    assert words("ice cream on ice") == ["ice cream", "ice"]


def test_a_word_not_known_gives_the_nearest_and_says_so():
    reading = VOCABULARY.read("strawbery and crowns and xylophone", 8)
    assert reading.replaced == (("strawbery", "strawberry"), ("crowns", "crown"))
    assert reading.unknown == ("xylophone",)
    assert [VOCABULARY.words[number] for number in reading.words] == ["strawberry", "crown"]


def test_a_word_counts_once_and_no_more_than_there_is_room_for():
    assert words("red red fruit crown", most=2) == ["red", "fruit"]


def test_an_unknown_style_names_those_there_are():
    with pytest.raises(ValueError, match="'cubist' is unknown; choose one of flat, noto"):
        VOCABULARY.style("cubist")


def test_a_translation_to_nothing_is_refused():
    with pytest.raises(ValueError, match="'pear', which is not one of its words"):
        Vocabulary((), ("apple",), {"pera": "pear"})
