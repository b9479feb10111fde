"""The error that refuses a request, one of gRPC's codes and a sentence, and the HTTP status that each code becomes."""

# TF Serving translates the codes in this way (tensorflow_serving/model_servers/http_server.cc).
HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


MAX_SENTENCE = 1000  # characters; gRPC sends a sentence as a header, and no reader wants 24 kB


class RequestError(Exception):
    """Says that a request is answered with an error. A sentence is cut off after `MAX_SENTENCE` characters.

    Attributes:
        code: gRPC's name of the error, one of the keys of `HTTP_STATUS`.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message if len(message) <= MAX_SENTENCE else f"{message[: MAX_SENTENCE - 1]}…")
        self.code = code


def invalid(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
