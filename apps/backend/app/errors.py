"""What can go wrong, each with the HTTP status and exit code it is answered with."""

from __future__ import annotations


class LedgermillError(Exception):
    """Something the person can act on; the message is a sentence that says what to do.

    Attributes:
        status: HTTP status of the problem+json answer.
        title: Short name of the kind of problem.
        exit_code: Exit code of the command line.
    """

    status = 500
    title = "Internal error"
    exit_code = 1


class InvalidInput(LedgermillError):
    """The request or its file is understood, but cannot be carried out as given."""

    status = 400
    title = "Invalid input"
    exit_code = 2


class AmbiguousInput(InvalidInput):
    """A file can be read in more than one way, and guessing would corrupt money.

    Attributes:
        question: What has to be decided.
        option: Name of the option that answers it, as `StatementOptions` calls it.
        choices: Values that the option may take here.
    """

    status = 409
    title = "A question first"

    def __init__(self, question: str, *, option: str, choices: tuple[str, ...]) -> None:
        flag = "--" + option.replace("_", "-")
        super().__init__(f"{question} Say which with {flag} {' or '.join(choices)}.")
        self.question = question
        self.option = option
        self.choices = choices


class NotSignedIn(LedgermillError):
    """The request does not say who it acts for."""

    status = 401
    title = "Not signed in"


class Forbidden(LedgermillError):
    """The request says who it acts for, and that is not enough for what it asks."""

    status = 403
    title = "Not allowed"


class Conflict(LedgermillError):
    """What is asked contradicts what is there already."""

    status = 409
    title = "Conflict"
    exit_code = 2


class TooLarge(InvalidInput):
    """The request's body is larger than the server takes."""

    status = 413
    title = "Too large"


class TooManyRequests(LedgermillError):
    """The client asks more often than it may.

    Attributes:
        retry_after: Seconds after which it may ask again.
    """

    status = 429
    title = "Too many requests"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotFound(LedgermillError):
    """There is no such thing, or it belongs to somebody else."""

    status = 404
    title = "Not found"


class DatabaseUnavailable(LedgermillError):
    """PostgreSQL cannot be reached or is not ready for this version."""

    status = 503
    title = "Database unavailable"
    exit_code = 3


class ArtefactRefused(LedgermillError):
    """A model's file is not, byte for byte, what was registered, or is none that this version opens."""

    title = "Model refused"
    exit_code = 4
