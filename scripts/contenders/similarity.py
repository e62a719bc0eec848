"""How alike two requests are, and which training rows are most like a request.

`bm25`: BM25 over words (Robertson and Zaragoza 2009, as in Lucene), by bm25s. `words` and `characters`: the cosine of
TF-IDF vectors (Salton and Buckley 1988) of one and two words, or of one to four characters, by scikit-learn.
Characters see what words do not: parts of version numbers, forms of a word, misspellings.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

# texts → for each, how alike every indexed text is, shape (indexed texts)
Scorer = Callable[[Sequence[str]], Iterator[np.ndarray]]
WORDS = r"(?u)\w+|\S"  # words, and any other character by itself: no text is without tokens
MOST_FEATURES = 50_000  # those in the most texts; bounds the memory that very many rows take
BLOCK = 64  # texts that are compared at a time


def index_bm25(texts: Sequence[str]) -> Scorer:
    """Index texts by BM25. No word is left out as a stop word: rows can be in any language."""
    import bm25s

    index = bm25s.BM25()
    tokens = bm25s.tokenize(list(texts), token_pattern=WORDS, stopwords=None, show_progress=False)
    index.index(tokens, show_progress=False)

    def score(asked: Sequence[str]) -> Iterator[np.ndarray]:
        for text in asked:
            (words,) = bm25s.tokenize(
                [text], token_pattern=WORDS, stopwords=None, return_ids=False, show_progress=False
            )
            yield index.get_scores_from_ids(index.get_tokens_ids(words))

    return score


def word_features() -> "TfidfVectorizer":
    """Return TF-IDF of one and two words, in lowercase, with logarithmic term frequencies."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        token_pattern=WORDS, ngram_range=(1, 2), sublinear_tf=True, max_features=MOST_FEATURES, dtype=np.float32
    )


def character_features(longest: int) -> "TfidfVectorizer":
    """Return TF-IDF of one to `longest` characters, in lowercase, with logarithmic term frequencies."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, longest), sublinear_tf=True, max_features=MOST_FEATURES, dtype=np.float32
    )


def _index_tfidf(vectorizer: "TfidfVectorizer", texts: Sequence[str]) -> Scorer:
    indexed = vectorizer.fit_transform(texts).T.tocsr()

    def score(asked: Sequence[str]) -> Iterator[np.ndarray]:
        for start in range(0, len(asked), BLOCK):
            yield from (vectorizer.transform(asked[start : start + BLOCK]) @ indexed).toarray()

    return score


SIMILARITIES: dict[str, Callable[[Sequence[str]], Scorer]] = {
    "bm25": index_bm25,
    "words": lambda texts: _index_tfidf(word_features(), texts),
    "characters": lambda texts: _index_tfidf(character_features(4), texts),
}


def find_nearest(scores: np.ndarray, count: int) -> list[int]:
    """Return the places of the `count` highest scores, highest first; of equal ones, the first places."""
    places = np.arange(len(scores))
    if count < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return places[np.argsort(-scores[places], kind="stable")][:count].tolist()
