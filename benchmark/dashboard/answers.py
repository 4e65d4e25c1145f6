"""Requests and answers in JSON."""

import json

from starlette.requests import Request
from starlette.responses import Response

from npp_rl.commands import UserError
from npp_rl.files import parsed


def json_answer(content, status: int = 200) -> Response:
    """`content` as JSON. Raises ValueError for NaN and infinity, which are not JSON."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


async def body_of(request: Request) -> dict:
    """The JSON object that a request carries. Raises UserError."""
    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError:
        raise UserError("the request: expected a JSON object") from None
    return parsed(text, "the request")
