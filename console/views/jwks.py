"""The public keys that backends check `Postern-Identity` with (RFC 7517)."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from console.permissions import public
from identity.core.jwt import jwk
from identity.models import Keystore


@public
def jwks(request: HttpRequest) -> HttpResponse:
    keystores = Keystore.objects.filter(name=settings.POSTERN_JWT_KEYSTORE)
    answer = JsonResponse({"keys": [jwk(keystore.certificate) for keystore in keystores]})
    answer["Cache-Control"] = "public, max-age=300"
    return answer
