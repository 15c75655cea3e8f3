"""What the HTTP/1 tables share: one exchange of exact bytes through a proxy with one recording upstream."""


def exchange(px, up, data, answers, timeout=3):
    """Sends `data`, reads `answers` responses (or to the end); returns ([Message], 'open' | 'eof' | 'reset').

    After an error answer the end of the connection is waited for. The upstream must have seen well-formed requests only.
    """
    with px.client(timeout=timeout) as c:
        c.send(data)
        got, end = [], "open"
        try:
            while len(got) < answers:
                got.append(c.response())
        except EOFError:
            end = c.stream.ended
        if end == "open" and got and got[-1].status >= 400:
            end = c.ended(timeout)
    assert up.errors == []
    return got, end
