"""The register of images: machines are made from registered images only. An import goes on in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from sqlalchemy import select, update

from components.common import log
from components.common.errors import IngotError
from orchestrator.config import OrchestratorConfig
from orchestrator.db.database import Database
from orchestrator.db.models import FAILED, IMPORTING, REGISTERED, Image
from orchestrator.errors import RefusedError
from orchestrator.iaas.provider import READY, Provider, ProviderError
from orchestrator.redact import Redactor

logger = log.get(__name__)
Shown = dict[str, str]


class Images:
    """The register of images.

    Args:
        config: its pools' images are registered at the start.
        db: the database of the register.
        providers: by name.
        redactor: makes the filter that masks secrets in messages.
    """

    def __init__(
        self,
        config: OrchestratorConfig,
        db: Database,
        providers: Mapping[str, Provider],
        redactor: Callable[[], Redactor],
    ) -> None:
        self._config = config
        self._db = db
        self._providers = providers
        self._redactor = redactor

    def prepare(self) -> None:
        """Register the images of the pools; an import that an earlier process began counts as failed."""
        wanted = {(pool.provider, pool.image) for pool in self._config.pools.values()}
        with self._db.session() as session:
            cut = "the orchestrator ended while it was imported: register it again"
            session.execute(
                update(Image)
                .where(Image.state == IMPORTING)
                .values(state=FAILED, message=cut, since=time.time())
            )
            for provider, name in sorted(wanted):
                if session.get(Image, (provider, name)) is None:
                    session.add(Image(provider=provider, name=name, since=time.time()))

    def listed(self) -> list[Shown]:
        """Return the register: `state` is importing, failed, or the provider's (ready, absent, outdated, unknown)."""
        with self._db.session() as session:
            rows = list(session.scalars(select(Image).order_by(Image.provider, Image.name)))
        return [self._show(row) for row in rows]

    def register(self, provider: str, name: str, source: str) -> tuple[Shown, bool]:
        """Register an image, and import it where its provider does not have it.

        Returns:
            The image, and whether an import has begun.

        Raises:
            RefusedError: 404 where the provider is unknown or cannot have it; 409 while it is being imported.
            ProviderError: the provider does not answer.
        """
        driver = self._provider(provider)
        found = driver.find_image(name)
        if found is None and not source:
            raise RefusedError(f"{provider} knows no image {name}, and no source is given", 404)
        begin = found is None or found.state != READY
        with self._db.session() as session:
            row = session.get(Image, (provider, name))
            if row is None:
                row = Image(provider=provider, name=name)
                session.add(row)
            elif row.state == IMPORTING:
                raise RefusedError(f"{name} is being imported", 409)
            row.source, row.message, row.since = source, "", time.time()
            row.state = IMPORTING if begin else REGISTERED
        if begin:
            threading.Thread(
                target=self._import,
                args=(driver, provider, name, source),
                name=f"import-{name}",
                daemon=True,
            ).start()
        return self._show(row), begin

    def remove(self, provider: str, name: str) -> None:
        """Take an image out of the register and away from its provider; machines made from it stay.

        Raises:
            RefusedError: 404 unknown; 409 where a pool is made from it, or while it is being imported.
            ProviderError: the provider refuses or does not answer; the image stays registered.
        """
        for pool, config in self._config.pools.items():
            if (config.provider, config.image) == (provider, name):
                raise RefusedError(f"pool {pool} is made from {name}: configure another image first", 409)
        with self._db.session() as session:
            row = session.get(Image, (provider, name))
            if row is None:
                raise RefusedError(f"{provider} has no registered image {name}", 404)
            if row.state == IMPORTING:
                raise RefusedError(f"{name} is being imported", 409)
        self._provider(provider).remove_image(name)
        with self._db.session() as session:
            row = session.get(Image, (provider, name))
            if row is not None:
                session.delete(row)

    def _provider(self, name: str) -> Provider:
        if name not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            raise RefusedError(f"there is no provider {name}; known: {known}", 404)
        return self._providers[name]

    def _import(self, driver: Provider, provider: str, name: str, source: str) -> None:
        state, message = REGISTERED, ""
        try:
            driver.import_image(name, source, lambda line: logger.info("image_import", image=name, line=line))
        except IngotError as error:
            state, message = FAILED, self._redactor()(str(error))
            logger.warning("image_not_imported", image=name, reason=message)
        except Exception as error:
            # A thread that ends without a result would leave the image importing for ever.
            state, message = (
                FAILED,
                f"unexpected: {type(error).__name__}; the orchestrator's log has the reason",
            )
            logger.exception("image_not_imported", image=name)
        with self._db.session() as session:
            row = session.get(Image, (provider, name))
            if row is not None:
                row.state, row.message, row.since = state, message, time.time()

    def _show(self, row: Image) -> Shown:
        state, message = row.state, row.message
        if state == REGISTERED:
            try:
                found = self._provider(row.provider).find_image(row.name)
                state = found.state if found is not None else "absent"
            except (ProviderError, RefusedError) as error:
                state, message = "unknown", self._redactor()(str(error))
        return {"provider": row.provider, "name": row.name, "state": state, "message": message}
