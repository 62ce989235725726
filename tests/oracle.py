# SPDX-License-Identifier: Apache-2.0
"""The law as plain loops, sharing no code with the package: who sees whom, with what rank, and which rows peek.

A row is described by the lengths of its parts and by g. Tokens are dictionaries; nothing is vectorised.
"""


def tokens_of(head, source, tail, target, g, peeks=True):
    """The row's tokens in storage order, each knowing its part, word and how many source words it may see."""
    tokens = []
    for _ in range(head):
        tokens.append({"part": "head", "word": None, "sees": None})
    for word, length in enumerate(source):
        for _ in range(length):
            tokens.append({"part": "source", "word": word, "sees": None})
    for _ in range(tail):
        tokens.append({"part": "tail", "word": None, "sees": g[0]})
    finals = []
    for word, length in enumerate(target):
        for position in range(length):
            is_final = position == length - 1
            tokens.append({"part": "target", "word": word, "sees": g[word + 1] if is_final else g[word]})
            if is_final:
                finals.append(len(tokens) - 1)
    tokens.append({"part": "eos", "word": None, "sees": len(source)})
    for index, token in enumerate(tokens):
        token["twin"] = index
        token["peek"] = ""
    if peeks:
        for word, twin in enumerate(finals):
            if g[word] != g[word + 1]:
                answer = "eos" if word == len(target) - 1 else "word ends"
                tokens.append({"part": "peek", "word": word, "sees": g[word], "twin": twin, "peek": answer})
    return tokens


def visible_keys(tokens, query):
    """Indices of the keys that token number `query` attends to, in the order of the text."""
    asker = tokens[query]
    seen = []
    for index, key in enumerate(tokens):
        if key["part"] == "peek":
            if index == query:
                seen.append(index)
            continue
        if asker["part"] == "peek" and index == asker["twin"]:
            continue
        if key["twin"] > asker["twin"]:
            continue
        if key["part"] == "source" and asker["sees"] is not None and key["word"] >= asker["sees"]:
            continue
        seen.append(index)
    return sorted(seen, key=lambda index: tokens[index]["twin"])


def rank_of_keys(tokens, query):
    """{key: rank among the visible keys}."""
    return {key: rank for rank, key in enumerate(visible_keys(tokens, query))}


def plain_ranks(tokens, query):
    """{key: index in the whole row}, hidden keys counted: the unmodified ALiBi."""
    return {key: tokens[key]["twin"] for key in visible_keys(tokens, query)}


def visible_with_context(sentences, number, query, context):
    """What token `query` of sentence `number` attends to in a row of sentences, each given by its tokens: pairs of
    sentence and token, in the order of the text."""
    seen = []
    for earlier in range(number):
        if number - earlier > context:
            continue
        for index, key in enumerate(sentences[earlier]):
            if key["part"] in ("head", "source", "tail", "target"):
                seen.append((earlier, index))
    return seen + [(number, index) for index in visible_keys(sentences[number], query)]
