"""The data plane: endpoints that answer thousands of requests a second, in front of Django.

An endpoint is a `Route` (inference.plane.routes): method, path, a DRF view and a coroutine.

    @described(summary="…", request=…, responses=…)
    class GenerateView(Door):                        # guards and describes: it is in urls.py, too
        …

    async def generate(call: Call) -> Reply:         # answers
        asked = call.json()                          # raises AppError, like everything here may
        …
        return Reply(body, model="name@1")           # bytes, or an async iterator of bytes

    ROUTES = [Route("POST", "/api/v1/inference/generate", GenerateView.as_view(), generate)]

The plane (inference.plane.application) asks the view who may come in, keeps the rate limit, reads
the body, cancels the coroutine when the client goes away, turns an AppError into the same
problem+json as everywhere, and counts. `mlserver.asgi` lists the routes; every other request goes
to Django.
"""
