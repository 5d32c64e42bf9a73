"""The HTTP API: a module for each group of routes, each with a Flask blueprint."""

from components.controller.api.routes import (
    apps,
    bulk,
    info,
    instances,
    services,
    services_v1,
    staging,
    status,
    users,
    v2_accounts,
    v2_apps,
    v2_logs,
    v2_platform,
    v2_records,
    v2_tasks,
)

BLUEPRINTS = (
    info.blueprint,
    users.blueprint,
    apps.blueprint,
    instances.blueprint,
    staging.blueprint,
    services.blueprint,
    services_v1.blueprint,
    services_v1.brokered,
    bulk.blueprint,
    v2_platform.blueprint,
    v2_accounts.blueprint,
    v2_apps.blueprint,
    v2_logs.blueprint,
    v2_records.blueprint,
    v2_tasks.blueprint,
    status.blueprint,
)
