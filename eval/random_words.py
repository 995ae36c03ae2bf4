"""Write the words the "waffle" control draws from: `python -m eval.random_words`.

The 4,000 words of English that the texts behind WordNet 3.0 use most: its file of sense counts (Debian's package
wordnet-base has it), summed over the senses of each word. Words of lower-case letters only, without a few that a report
had better not draw at random.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from vlmdesc.descriptors.controls import WORDS
from vlmdesc.files import write_atomic

COUNTS = Path("/usr/share/wordnet/cntlist.rev")
N = 4_000
UNFIT = set(
    "bastard bitch damn gay hell jew jewish kill murder nazi negro nigger prostitute rape savage sex sexual slave "
    "suicide whore".split()
)


def words(counts: str) -> list[str]:
    """The N words with the highest counts, in alphabetical order; of equal counts the first in the alphabet."""
    total = Counter[str]()
    for line in counts.splitlines():
        sense, _, count = line.split()
        total[sense.partition("%")[0]] += int(count)
    fit = (word for word in total if re.fullmatch("[a-z]{2,}", word) and word not in UNFIT)
    return sorted(sorted(fit, key=lambda word: (-total[word], word))[:N])


def main() -> None:
    if not COUNTS.is_file():
        sys.exit(f"error: no sense counts ({COUNTS}); fix: apt-get install wordnet-base")
    write_atomic(WORDS, ("\n".join(words(COUNTS.read_text(encoding="utf-8"))) + "\n").encode())


if __name__ == "__main__":
    main()
