"""Unigram tokenization, as SentencePiece's (Kudo 2018, arXiv:1804.10959; Kudo & Richardson 2018,
arXiv:1808.06226).

A text is prepared (sentencepiece_text.py), which writes its spaces as U+2581, and cut into the
pieces whose probabilities have the largest product (unigram_encode.py). Training finds the pieces
and their probabilities (unigram_train.py). What a model is, and SentencePiece's own files, are in
sentencepiece_model.py. Left out: SentencePiece's BPE, word and character models.
"""

import numpy as np

from minillm.errors import UserError
from minillm.tokenizers.base import check_ids, utf8
from minillm.tokenizers.sentencepiece_model import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER,
    read_model,
    write_model,
)
from minillm.tokenizers.sentencepiece_text import SPACE, Normalizer
from minillm.tokenizers.surface import Surface, regroup
from minillm.tokenizers.unigram_decode import Decoder
from minillm.tokenizers.unigram_encode import Encoder
from minillm.tokenizers.unigram_files import (
    check_vocabulary,
    vocabulary_from_dict,
    vocabulary_to_dict,
)
from minillm.tokenizers.unigram_lattice import Lattice, draw, prefixes
from minillm.tokenizers.unigram_train import train_vocabulary

__all__ = ["UnigramTokenizer"]

PENALTY = np.float32(10)  # how much worse than the worst piece an unknown character is


class UnigramTokenizer(Surface):
    """Pieces with probabilities; reads and writes SentencePiece's models.

    A text's ids are those that SentencePiece finds (0.2.3). A character of no piece is unknown:
    several in a row are one token, which decodes to a double question mark between spaces; or, with
    `byte_fallback`, each becomes the bytes of its UTF-8.

    Decoding gives the text back (`lossless`) where the rules change nothing but the spaces, and
    keep all of these. Then only U+2581 itself is lost, to a space: `unknown_bytes` counts it.

    Parameters
    ----------
    vocabulary : sentencepiece_model.Vocabulary

    Attributes
    ----------
    end_id : int, that of "</s>" (or the model's own name for it); behind all pieces where the
        model has none

    Raises
    ------
    UserError
        for a vocabulary that is none: a piece twice or empty, no unknown one, bytes missing.
    """

    kind = "unigram"

    def __init__(self, vocabulary):
        v = self.vocabulary = vocabulary
        check_vocabulary(v)
        self.special_tokens = {
            piece: i for i, piece in enumerate(v.pieces) if v.types[i] == CONTROL
        }
        self.vocab_size = len(v.pieces)
        if v.eos not in self.special_tokens:
            name = f"<{v.eos}>" if v.eos in v.pieces else v.eos
            self.special_tokens[name] = self.vocab_size
            self.vocab_size += 1
        self.end_id = self.special_tokens.get(v.eos, self.vocab_size - 1)
        self.unknown_id = v.types.index(UNKNOWN) if UNKNOWN in v.types else None
        users = [piece for piece, kind in zip(v.pieces, v.types, strict=True) if kind == USER]
        self._normalizer = Normalizer(v.rules, users, suffix=v.whitespace_as_suffix)
        self.lossless = self._normalizer.lossless and v.denormalize is None
        self._prepare_encoding(users)
        self._decoder = Decoder(v)
        self._byte_id = np.zeros(256, np.int32)
        self._byte_id[list(self._decoder.byte_of.values())] = list(self._decoder.byte_of)

    def __reduce__(self):  # all but the vocabulary is made from it, or only remembered
        return type(self), (self.vocabulary,)

    def _prepare_encoding(self, users):
        v = self.vocabulary
        kinds = np.array(v.types)
        self._known = {p: i for i, p in enumerate(v.pieces) if kinds[i] in (NORMAL, USER)}
        worst = v.scores[kinds == NORMAL].min(initial=np.finfo(np.float32).max)
        self._unknown = len(v.pieces)  # each unknown character, before several become one
        self._scores = np.append(v.scores, worst - PENALTY).astype(np.float32)
        # A user's symbol beats everything else, and a longer one the shorter ones. SentencePiece
        # takes its length in bytes where it looks for the best path, and in characters elsewhere.
        scores = self._scores.copy()
        for symbol in users:
            scores[self._known[symbol]] = 0.1 * (len(symbol.encode()) - 1)
            self._scores[self._known[symbol]] = 0.1 * (len(symbol) - 1)
        self._encoder = Encoder(self._known, scores)
        self._prefixes = None  # for lattices, made when first needed
        self._length = np.array([*map(len, v.pieces), 1])
        self._apart = {}  # for `_cut`: whether a text can be cut between two characters

    @classmethod
    def train(cls, texts, **settings):
        """Find pieces in a text, or several in turn, that are consumed once.

        settings : those of `unigram_train.train_vocabulary`
        """
        return cls(train_vocabulary(texts, **settings))

    def token_name(self, token):
        """How a token is shown: the piece, in which U+2581 is a space.

        Raises
        ------
        ValueError
            for an id out of range.
        """
        check_ids([token], self.vocab_size)
        if token < len(self.vocabulary.pieces):
            return self.vocabulary.pieces[token]
        return next(name for name, i in self.special_tokens.items() if i == token)

    def _encode(self, text):
        utf8(text)
        prepared = self._normalizer.prepare(text)
        path = self._encoder.ids(prepared)
        if self._unknown not in path:
            return path
        return self._tokens(path, prepared)[0]

    def _spans(self, text):
        utf8(text)
        prepared, origin = self._normalizer.align(text)
        ids, places = self._tokens(self._encoder.ids(prepared), prepared)
        return ids, origin[places]

    def _tokens(self, path, prepared):
        """Ids and where they stand in the prepared text, from a path with unknown characters."""
        stop = np.cumsum(self._length[path])
        places = np.stack([stop - self._length[path], stop], axis=1)  # (N, 2)
        unknown = path == self._unknown
        if not unknown.any():
            return path, places
        if self._decoder.byte_of:
            bytes_of = [prepared[i].encode() for i in places[unknown, 0].tolist()]
            count = np.ones(len(path), np.int64)
            count[unknown] = [len(b) for b in bytes_of]
            ids, places = np.repeat(path, count), np.repeat(places, count, axis=0)
            ids[ids == self._unknown] = self._byte_id[np.frombuffer(b"".join(bytes_of), np.uint8)]
            return ids, places
        opens = ~(unknown & np.append(False, unknown[:-1]))  # all but the unknown behind unknown
        closes = np.append(opens[1:], True)
        places = np.stack([places[opens, 0], places[closes, 1]], axis=1)
        ids = np.where(unknown, self.unknown_id, path)[opens]
        return ids.astype(np.int32), places

    def decode(self, ids, *, special=False):
        """As `Surface.decode`; bytes on both sides of a special token are no character."""
        if special:
            return super().decode(ids, special=True)
        return self._text_of(check_ids(ids, self.vocab_size))

    def _text_of(self, ids):
        return self._decoder.text_of(ids.tolist())

    def unknown_bytes(self, text):
        """The UTF-8 bytes in unknown tokens; if `lossless`, also those of U+2581."""
        ids = self._encode(text)
        lost = 3 * text.count(SPACE) if self.lossless else 0
        if self.unknown_id is None or self._decoder.byte_of or not (ids == self.unknown_id).any():
            return lost
        ids, spans = self._spans(text)
        for start, stop in spans[ids == self.unknown_id].tolist():
            part = text[start:stop]
            lost += len(part.encode()) - (3 * part.count(SPACE) if self.lossless else 0)
        return lost

    def sample(self, text, *, rng, alpha=0.1, nbest_size=-1):
        """Ids drawn at random, for subword regularisation (Kudo 2018, section 3.3).

        Equation: p(path) proportional to exp(score(path)) ** alpha

        Parameters
        ----------
        text : str
        rng : numpy.random.Generator
        alpha : float >= 0; 0 draws all paths alike, a large one the best path
        nbest_size : how many of the best paths to draw from; -1 for all paths

        Returns
        -------
        ids : int32 (N,)
        """
        if alpha < 0 or not np.isfinite(alpha):
            raise ValueError(f"alpha must be a finite number of at least 0, got {alpha}")
        if nbest_size in (0, 1):
            return self._encode(text)
        if nbest_size > 1:
            found = self.nbest(text, nbest_size)
            return found[draw(rng, [alpha * score for _, score in found])][0]
        utf8(text)
        prepared, path = self._normalizer.prepare(text), []
        for segment in self._encoder.segments(prepared):  # they are drawn independently
            path += self._lattice(segment).sample(rng, alpha)
        return self._tokens(np.array(path, np.int32), prepared)[0]

    def nbest(self, text, n):
        """The n best ways to cut a text, the best first: a list of (ids, log probability)."""
        utf8(text)
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        prepared = self._normalizer.prepare(text)
        return [
            (self._tokens(np.array(path, np.int32), prepared)[0], score)
            for path, score in self._lattice(prepared).nbest(n)
        ]

    def _lattice(self, prepared):
        if self._prefixes is None:
            self._prefixes = prefixes(self._known)
        unknown = (self._unknown, float(self._scores[-1]))
        return Lattice(prepared, self._prefixes, self._scores, unknown)

    def encode_stream(self, chunks, *, special=()):
        """As `Surface.encode_stream`; what follows a cut goes on with the sum of scores before.

        With `whitespace_as_suffix` nothing is cut: the whole text is held, a file's too.
        """
        names, first, total = self._names(special), True, 0.0
        for text in regroup(chunks, lambda held: self._cut_beside(held, names)):
            found = [np.empty(0, np.int32)]
            for piece, name, _ in self._parts(text, special):
                if name is None:
                    utf8(piece)
                    prepared = self._normalizer.prepare(piece, first=first)
                    path, total = self._encoder.path(prepared, total)
                    found.append(self._tokens(path, prepared)[0])
                    first = False
                else:
                    found.append(np.array([self.special_tokens[name]], np.int32))
                    first, total = True, 0.0
            yield np.concatenate(found)

    def _cut(self, text):
        if self.vocabulary.whitespace_as_suffix:
            return 0  # what the end of the text adds would be added at each cut
        table = self._normalizer.table
        for place in range(len(text) - 1, 0, -1):
            following = text[place + 1 : place + 2]
            if text[place] in table.first and (not following or following in table.later):
                continue  # a rule for both may give something else
            pair = text[place - 1 : place + 1]
            if pair not in self._apart:
                self._apart[pair] = self._can_cut(*pair)
            if self._apart[pair]:
                return place
        return 0

    def _can_cut(self, a, b):
        """Whether no rule, symbol, piece or run of unknown characters reaches from a to b."""
        table = self._normalizer.table
        before, after = (table.single.get(ord(c), c) for c in (a, b))
        if a in table.later or b in table.later or not before or not after:
            return False
        escape = SPACE if self.vocabulary.rules.escape_whitespaces else " "
        before, after = before[-1].replace(" ", escape), after[0].replace(" ", escape)
        if self.vocabulary.rules.remove_extra_whitespaces and before in (" ", SPACE):
            return False
        known = self._decoder.byte_of or before in self._known or after in self._known
        pairs = [x + y for x in (a, before) for y in (b, after)]
        return bool(known) and all(self._encoder.boundaries(pair)[0] for pair in pairs)

    def to_dict(self):
        return {"kind": self.kind, **vocabulary_to_dict(self.vocabulary)}

    @classmethod
    def from_dict(cls, saved):
        return cls(vocabulary_from_dict(saved))

    @classmethod
    def load_model(cls, path):
        """The tokenizer in a `.model` file of SentencePiece.

        Raises
        ------
        UserError
            if it cannot be read or is no unigram model.
        """
        vocabulary = read_model(path)
        try:
            return cls(vocabulary)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def save_model(self, path):
        """Write a `.model` file that SentencePiece loads, and which gives it the same ids."""
        write_model(path, self.vocabulary)
