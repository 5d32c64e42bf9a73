import json
import os
import signal

import django
from django.http import JsonResponse
from django.urls import path

ME = json.loads(os.environ.get("VCAP_APPLICATION", "{}"))


def facts(request):
    return JsonResponse(
        {
            "framework": "django",
            "name": ME.get("name"),
            "version": ME.get("version"),
            "instance": ME.get("instance_index"),
            "instance_id": ME.get("instance_id"),
            "dea": os.environ.get("VCAP_APP_HOST"),
            "port": os.environ.get("PORT"),
            "runtime": django.get_version(),
            "greeting": os.environ.get("GREETING"),
        }
    )


def crash(request):
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


urlpatterns = [path("", facts), path("crash", crash)]
