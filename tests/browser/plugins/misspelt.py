"""A plugin that misspells its hook: the page has to say so."""


def canary_broken():
    return []
