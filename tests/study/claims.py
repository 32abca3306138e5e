"""What the tests of all experiments ask of their claims."""


def failing(claims, found):
    """Return the numbers, from 1, of the claims that these numbers do not bear out."""
    return [i for i, claim in enumerate(claims, start=1) if not claim.holds(found)]
