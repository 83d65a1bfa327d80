"""Django: one client for all threads, one event loop per process.

    gunicorn --workers=4 --threads=8 django_app:application

In a project of yours, make the client in a module of its own, and import it in
views.
"""

from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import (
    HttpRequest,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

from finetuning_async import FinetuningError, Generation
from finetuning_async.sync import Client

client = Client(rate_limiter="shared")  # by all processes of this machine


def create(request: HttpRequest) -> HttpResponseBase:
    try:
        track = client.generations.create(request.POST["tags"], timeout=20)
    except FinetuningError as error:
        status = 503 if error.safe_to_retry else 502
        return JsonResponse({"error": error.message}, status=status)
    return JsonResponse({"id": track.id}, status=202)


def show(request: HttpRequest, track_id: str) -> HttpResponseBase:
    track = client.generations.get(track_id)
    return JsonResponse({"id": track.id, "status": track.status})


def audio(request: HttpRequest, track_id: str) -> HttpResponseBase:
    track = client.generations.get(track_id)
    # Django closes the response, and the stream, also if its reader leaves.
    return StreamingHttpResponse(chunks_of(track), content_type="audio/mpeg")


def chunks_of(track: Generation) -> Iterator[bytes]:
    with client.open_audio(track) as stream:
        yield from stream


settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only signs what this program does not use",
)
urlpatterns = [
    path("tracks", create),
    path("tracks/<track_id>", show),
    path("tracks/<track_id>/audio", audio),
]
application = get_wsgi_application()
