"""Nearest vectors, word ranking and rank fusion, each compared with an independent computation."""

import math
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreel.api.search.ranking import Warnings, fuse, unit_score
from promptreel.api.search.words import (
    K1,
    MIN_SHARE,
    B,
    WordPart,
    bm25,
    index_words,
    query_words,
    read_words,
    split_words,
    write_words,
)
from promptreel.schemas.errors import StorageError
from promptreel.tables.vectors import best_of, nearest, open_vectors, similarities, write_vectors


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def nearest_by_python(vectors, query, count, rows):
    """Rank with exact sums of doubles, one row at a time."""
    scored = [(math.fsum(float(a) * float(b) for a, b in zip(vectors[row], query, strict=True)), row) for row in rows]
    return [row for _, row in sorted(scored, key=lambda pair: (-round(pair[0], 5), pair[1]))[:count]]


# Such vectors tie often, and their cosines are exact multiples of 1/4, so that rounding does not affect ties.
corners = st.lists(st.lists(st.sampled_from([-0.5, 0.5]), min_size=4, max_size=4), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(corners, st.integers(1, 70), st.data())
def test_nearest_rows_agree_with_exact_arithmetic(rows, count, data):
    vectors = np.asarray(rows, np.float32)
    query = np.asarray(data.draw(st.sampled_from(rows)), np.float32)
    selected = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    found, scores = nearest(vectors, query, count)
    assert found.tolist() == nearest_by_python(vectors, query, count, range(len(rows)))
    np.testing.assert_allclose(scores, [float(vectors[row] @ query) for row in found], atol=1e-6)
    found, _ = nearest(vectors, query, count, np.asarray(selected, np.intp))
    assert found.tolist() == nearest_by_python(vectors, query, count, selected)


def test_row_filter_changes_neither_order_nor_scores():
    rng = np.random.default_rng(1)
    vectors = unit(rng.standard_normal((50_000, 24)))
    query = vectors[7]
    cosines = vectors.astype(np.float64) @ query
    for share in (0.001, 0.1, 0.29, 0.31, 0.9):
        rows = np.flatnonzero(rng.random(len(vectors)) < share)
        found, scores = nearest(vectors, query, 10, rows)
        assert found.tolist() == rows[np.argsort(-cosines[rows], kind="stable")[:10]].tolist()
        np.testing.assert_allclose(scores, cosines[found], atol=1e-5)


def test_equal_vectors_tie_at_every_matrix_row():
    vectors = np.tile(unit(np.random.default_rng(2).standard_normal((1, 333))), (10_007, 1))
    query = vectors[0]
    assert nearest(vectors, query, 25)[0].tolist() == list(range(25))
    assert best_of(similarities(vectors, query, np.arange(5, 3000, 7)), 5).tolist() == [0, 1, 2, 3, 4]


def test_stored_vectors_are_identical_and_large_ones_mapped(tmp_path):
    small, large = unit(np.random.default_rng(3).standard_normal((9, 8))), np.ones((3000, 128), np.float32)
    write_vectors(tmp_path / "small.npy", 9, 8, [small[:4], small[4:]])
    write_vectors(tmp_path / "large.npy", 3000, 128, [large])
    assert np.array_equal(open_vectors(tmp_path / "small.npy"), small)
    opened = open_vectors(tmp_path / "large.npy")
    assert np.array_equal(opened, large)
    assert isinstance(opened.base, np.memmap)
    with pytest.raises(ValueError, match="8 vectors instead of 9"):
        write_vectors(tmp_path / "short.npy", 9, 8, [small[:8]])
    odd = np.array([[np.nan, np.inf, 1.0]], np.float32)
    write_vectors(tmp_path / "odd.npy", 1, 3, [odd])
    assert open_vectors(tmp_path / "odd.npy").tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense" * 100])
def test_invalid_vector_file_is_rejected(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.npy"):
        open_vectors(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(StorageError, match=r"float64\[3\]"):
        open_vectors(tmp_path / "b.npy")
    with pytest.raises(StorageError):
        open_vectors(tmp_path / "gone.npy")


# ------------------------------------------------------------------------------------------------ words


def test_words_are_lower_case_without_accents_and_ideographs_separate():
    texts = ["Café-Bar 4471", "the_end, ÜBER!", "東京タワー 3", "Привет мир", "", "…"]
    words = [[word for word in row if word] for row in split_words(pa.array(texts)).to_pylist()]
    assert words == [
        ["cafe", "bar", "4471"], ["the", "end", "uber"], ["東", "京", "タ", "ワ", "ー", "3"], ["привет", "мир"], [], [],
    ]  # fmt: skip
    assert query_words("The red, RED boats — the") == ("the", "red", "boats")


texts_of_words = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12).map(" ".join), max_size=25)


def plain_bm25(documents, query):
    """Compute textbook BM25; return {document: score}."""
    split = [document.split() for document in documents]
    filled = [words for words in split if words]
    average = sum(map(len, filled)) / max(1, len(filled))
    rarity = {}
    for word in dict.fromkeys(query.split()):
        holding = sum(word in words for words in filled)
        rarity[word] = math.log(1 + (len(filled) - holding + 0.5) / (holding + 0.5))
    scores = {}
    for number, words in enumerate(split):
        held = [word for word in rarity if word in words]
        if held and sum(rarity[word] for word in held) >= MIN_SHARE * sum(rarity.values()) - 1e-6:
            times = Counter(words)
            norm = K1 * (1 - B + B * len(words) / average)
            scores[number] = sum(rarity[w] * times[w] * (K1 + 1) / (times[w] + norm) for w in held)
    return scores


@settings(max_examples=200, deadline=None)
@given(texts_of_words, st.lists(st.sampled_from("abcdefghxy"), min_size=1, max_size=4).map(" ".join), st.data())
def test_bm25_over_parts_agrees_with_textbook_formula(documents, query, data):
    cut = data.draw(st.integers(0, len(documents)))
    parts = []
    for some in (documents[:cut], documents[cut:]):
        # Each document is stored as two selected texts and one that is not selected.
        texts = [text for document in some for text in (document[:6], document[6:], "a b c noise")]
        places = np.repeat(np.arange(len(some), dtype=np.int32), 3)
        selected = np.tile([True, True, False], len(some)).astype(bool)
        parts.append(WordPart(index_words(texts), places, len(some), selected))
    found = bm25(parts, query_words(query))
    scores = {int(place): float(score) for place, score in zip(*found[0], strict=True)}
    scores |= {cut + int(place): float(score) for place, score in zip(*found[1], strict=True)}
    assert scores == pytest.approx(plain_bm25(documents, query), rel=1e-4)


def test_stored_word_index_is_identical(tmp_path):
    for number, texts in enumerate(([], [""], ["a b a", "", "c a"])):
        index = index_words(texts)
        (tmp_path / str(number)).mkdir()
        write_words(index, tmp_path / str(number))
        again = read_words(tmp_path / str(number))
        for word in ("a", "b", "c", "zz", ""):
            expected = [(n, text.split().count(word)) for n, text in enumerate(texts) if word in text.split()]
            assert [list(zip(*map(np.ndarray.tolist, part.find(word)), strict=True)) for part in (index, again)] == [
                expected,
                expected,
            ]
        assert again.lengths.tolist() == [len(text.split()) for text in texts]


# ------------------------------------------------------------------------------------------------ fusion


def test_rankings_are_fused_by_formula():
    first, second = ["a", "b", "c"], ["c", "d"]
    assert fuse([first, second]) == pytest.approx({"c": 1 / 63 + 1 / 61, "a": 1 / 61, "b": 1 / 62, "d": 1 / 62})
    assert list(fuse([first, second])) == ["c", "a", "b", "d"]
    weighted = fuse([first, second], [0.3, 0.7])
    assert weighted == pytest.approx({"c": 0.3 / 63 + 0.7 / 61, "a": 0.3 / 61, "b": 0.3 / 62, "d": 0.7 / 62})
    assert list(weighted) == ["c", "d", "a", "b"]
    assert fuse([]) == {}


@given(st.permutations("abcdefgh"), st.permutations("abcdefgh"))
def test_fusion_does_not_depend_on_ranking_order(first, second):
    assert list(fuse([first, second], tie=str)) == list(fuse([second, first], tie=str))


def test_cosine_maps_to_score_from_0_to_1():
    assert [unit_score(cosine) for cosine in (-1.0001, -1, 0, 0.5, 1, 1.0001)] == [0, 0, 0.5, 0.75, 1, 1]


def test_warnings_fit_a_header():
    warnings = Warnings()
    assert warnings.headers() == {}
    for text in ("no model\r\nSet-Cookie: a", "no model\r\nSet-Cookie: a", "ünüsual " * 500):
        warnings.add(text)
    (value,) = warnings.headers().values()
    assert not re.search(r"[^ -~]", value)
    assert value.count("Set-Cookie") == 1
    assert len(value) <= 2000
