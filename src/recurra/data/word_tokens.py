"""A simple tokeniser of raw text, for languages that write blanks between words."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?:https?://|www\.)\S*[^\s.,;:!?)\]}'"]  # addresses
  | [\w.+-]+@[\w-]+\.[\w.-]*\w              # mail addresses
  | [@\#]\w+                                # names and topics of social media
  | \d+(?:[.,:/]\d+)*%?                     # numbers, times, dates
  | (?:[^\W\d_]\.){2,}                      # U.S.
  | (?:Mr|Mrs|Ms|Dr|St|Prof|vs|etc|e\.g|i\.e)\.
  | [^\W\d_]+(?=n['’]t\b)                   # do|n't, as treebanks cut it
  | n['’]t\b
  | ['’](?:s|m|re|ve|ll|d)\b
  | \w+(?:-\w+)*                            # words, with hyphens inside
  | \.{2,} | -{2,}                          # ellipses, dashes
  | \S                                      # any other mark by itself
    """,
    re.VERBOSE | re.IGNORECASE,
)
_END = re.compile(r"[.!?…]+$|[。！？]$")
_CLOSING = re.compile(r"[\"'”’)\]»]$")


def tokenise(line: str) -> list[str]:
    """The words and marks of a line of raw text.

    Words are what stands between blanks, less the punctuation around them, of which each mark is a
    token; addresses, numbers, abbreviations such as U.S. and hyphenated words stay whole; the
    English endings n't, 's, 'm, 're, 've, 'll, 'd are tokens, as treebanks have it. It knows no
    language else: where words are cut in other ways, pass text that is cut already.

    Example:
        >>> tokenise("Don't pay $3.50 (or more) in the U.S., Mr. Smith!")
        ... # doctest: +NORMALIZE_WHITESPACE
        ['Do', "n't", 'pay', '$', '3.50', '(', 'or', 'more', ')', 'in', 'the', 'U.S.', ',',
         'Mr.', 'Smith', '!']
        >>> tokenise("  ")
        []
    """
    return _TOKEN.findall(line)


def sentences(line: str) -> Iterator[list[str]]:
    """A line's tokens cut after each mark that ends a sentence; closing quotes go with it.

    Example:
        >>> list(sentences('He said "Go." She went.'))
        [['He', 'said', '"', 'Go', '.', '"'], ['She', 'went', '.']]
        >>> list(sentences(""))
        [[]]
    """
    sentence: list[str] = []
    has_ended = is_any = False
    for token in tokenise(line):
        if has_ended and not _CLOSING.match(token):
            yield sentence
            sentence, has_ended, is_any = [], False, True
        sentence.append(token)
        has_ended = has_ended or bool(_END.match(token))
    if sentence or not is_any:
        yield sentence
