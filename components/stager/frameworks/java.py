"""Java web applications: a war under Tomcat 10.1, which is part of the droplet.

Tomcat 10 is the servlet container that both Debian 12 and 13 have. It speaks `jakarta.servlet` (Servlet 6.0); an
application written for `javax.servlet` (up to Servlet 4.0: Spring before 6, Grails, Lift) is converted when it is staged,
by Tomcat's own migration tool. The container comes from the stager's `libtomcat10-java`, so a DEA needs a JRE only, and a
droplet runs on the container it was staged with.
"""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from components.stager.archive import ArchiveLimits, unpack
from components.stager.errors import StagingError
from components.stager.frameworks.media_types import by_ending
from components.stager.plugin import Context, Detection
from components.stager.procfile import own_command
from components.stager.reading import MEND, content
from components.stager.startup import OWN, Start

WEBAPP = "webapp"
BASE = f"{OWN}/tomcat"
_JARS = (
    *("annotations-api", "api", "catalina", "coyote", "el-api", "jasper", "jasper-el", "jaspic-api", "jni"),
    *(
        "jsp-api",
        "juli",
        "servlet-api",
        "util",
        "util-scan",
        "websocket",
        "websocket-api",
        "websocket-client-api",
    ),
)
# The compiler of JSP pages; only an application with such pages gets it.
_COMPILERS = (
    "eclipse-jdt-core.jar",
    "eclipse-jdt-core-compiler-batch.jar",
    "org.eclipse.jdt.core.compiler.batch.jar",
)
_MIGRATION = "../tomcat-jakartaee-migration/lib"
# The largest class, page or description: no compiler and no person writes a larger one.
_MOST_READ = 4 * 1024 * 1024
_OLD, _NEW = b"javax/servlet", b"jakarta/servlet"
_OPERATOR = "The operator must repair this: the stager's machine lacks a package."
_OPENS = ("java.lang", "java.io", "java.util", "java.util.concurrent")


class JavaWeb:
    """A war, packed or unpacked (as `vmc` sends it)."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        if (source / "WEB-INF").is_dir():
            return Detection(True, "WEB-INF")
        wars = sorted(p.name for p in source.glob("*.war"))
        if len(wars) == 1:
            return Detection(True, wars[0])
        return Detection(False, "it holds several *.war" if wars else "it has neither WEB-INF/ nor a *.war")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        # Checked before all files become the folder `webapp`.
        command = own_command(context.app, context.meta)
        webapp = _lay_out(context.app)
        if speaks_javax(webapp):
            _migrate(context, webapp)
        else:
            context.say("written for jakarta.servlet, or for no servlets at all: used as it is")
        has_pages = any(webapp.rglob("*.jsp*"))
        version = _add_tomcat(context, has_pages=has_pages)
        context.say(f"added Tomcat {version}" + (" with the compiler of JSP pages" if has_pages else ""))
        opens = " ".join(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENS)
        return Start(
            command=command
            or (
                f'exec java {opens} -Dcatalina.home="$PWD/{BASE}" -Dcatalina.base="$PWD/{BASE}"'
                f' -Dingot.port="$VCAP_APP_PORT" -Dingot.webapp="$PWD/{WEBAPP}" -Djava.awt.headless=true'
                f" -Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager"
                f' -cp "$PWD/{BASE}/lib/*" org.apache.catalina.startup.Bootstrap start'
            )
        )


def speaks_javax(webapp: Path) -> bool:
    """Return whether classes and libraries show that it was written for javax.servlet and not converted."""
    old = (webapp / "WEB-INF" / "web.xml").is_file() and any(
        name in content(webapp / "WEB-INF" / "web.xml", most=_MOST_READ)
        for name in (b"java.sun.com/xml/ns", b"java.sun.com/dtd", b"xmlns.jcp.org")
    )
    for code in _classes(webapp):
        if _NEW in code:
            return False
        old = old or _OLD in code
    # Pages name classes with dots.
    return old or any(
        b"javax.servlet" in content(page, most=_MOST_READ)
        for page in webapp.rglob("*.jsp*")
        if page.is_file()
    )


def _classes(webapp: Path) -> Iterator[bytes]:
    for path in sorted((webapp / "WEB-INF" / "classes").rglob("*.class")):
        yield content(path, most=_MOST_READ)
    for path in sorted((webapp / "WEB-INF" / "lib").glob("*.jar")):
        try:
            with zipfile.ZipFile(path) as jar:
                for entry in jar.infolist():
                    if not entry.filename.endswith(".class") or entry.filename.startswith("META-INF/"):
                        continue
                    if entry.file_size > _MOST_READ:
                        raise StagingError("compile", f"{entry.filename} in {path.name} is too long", MEND)
                    yield jar.read(entry)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError) as error:
            raise StagingError(
                "compile", f"{path.name} is not a sound jar ({error})", "Build the war again."
            ) from error


def _lay_out(app: Path) -> Path:
    """Make the application `app/webapp`, so that other files are not served."""
    webapp = app / WEBAPP
    if (app / "WEB-INF").is_dir():
        scratch = app.with_name("webapp")
        app.rename(scratch)
        app.mkdir()
        scratch.rename(webapp)
        # Tomcat serves every file but those in WEB-INF and META-INF.
        for path in [p for p in webapp.iterdir() if p.name.startswith(".") and p.name != ".well-known"]:
            path.rename(app / path.name)
        return webapp
    war = next(iter(app.glob("*.war")))
    packed = app.with_name("application.war")
    war.rename(packed)
    if webapp.exists():
        raise StagingError("compile", f"beside {war.name} lies a folder {WEBAPP}", "Push the war alone.")
    webapp.mkdir()
    unpack(packed, webapp, ArchiveLimits())
    packed.unlink()
    return webapp


def _migrate(context: Context, webapp: Path) -> None:
    tool = _newest(Path(context.tools.tomcat) / _MIGRATION, "jakartaee-migration-*-shaded.jar") or _newest(
        Path(context.tools.tomcat) / _MIGRATION, "*.jar"
    )
    if tool is None:
        raise StagingError("compile", "Tomcat's migration tool is not there", _OPERATOR)
    context.say("written for javax.servlet: converted to jakarta.servlet")
    converted = webapp.with_name("converted")
    context.run(
        [
            *[context.tools.java, "-XX:+UseSerialGC", "-Xmx384m", "-cp", str(tool.parent / "*")],
            *["org.apache.tomcat.jakartaee.MigrationCLI", "-logLevel=WARNING", "-profile=EE"],
            *[str(webapp), str(converted)],
        ],
        "The war cannot be converted to jakarta.servlet; build it for that (Servlet 5 or later).",
    )
    shutil.rmtree(webapp)
    converted.rename(webapp)
    for path in sorted((webapp / "WEB-INF" / "lib").glob("*.jar")):
        _same_dates(path)


def _same_dates(path: Path) -> None:
    """Write a jar again with one date for all entries: the tool dates changed ones with the time of day."""
    scratch = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            again = zipfile.ZipInfo(entry.filename)
            again.compress_type = zipfile.ZIP_STORED if entry.is_dir() else zipfile.ZIP_DEFLATED
            new.writestr(again, old.read(entry))
    scratch.replace(path)


def _add_tomcat(context: Context, *, has_pages: bool) -> str:
    """Put the container and its settings into the droplet; return its version."""
    base = context.app / BASE
    (base / "lib").mkdir(parents=True)
    (base / "conf").mkdir()
    jars = Path(context.tools.tomcat)
    for name in _JARS:
        _copy(jars, [f"tomcat10-{name}.jar"], base / "lib")
    if has_pages:
        _copy(jars, _COMPILERS, base / "lib", at_least=1)
    (base / "conf" / "server.xml").write_text(_SERVER, encoding="utf-8")
    (base / "conf" / "web.xml").write_text(web_xml(), encoding="utf-8")
    # One class loader: the container's jars are on the class path.
    (base / "conf" / "catalina.properties").write_text("common.loader=\n", encoding="utf-8")
    with zipfile.ZipFile(base / "lib" / "tomcat10-catalina.jar") as catalina:
        told = catalina.read("org/apache/catalina/util/ServerInfo.properties").decode()
    found = [line.partition("=")[2] for line in told.splitlines() if line.startswith("server.number")]
    return found[0].strip() if found else "10"


def _copy(jars: Path, names: Iterable[str], target: Path, at_least: int | None = None) -> None:
    wanted = list(names)
    present = [jars / name for name in wanted if (jars / name).is_file()]
    if len(present) < (len(wanted) if at_least is None else at_least):
        missing = sorted(set(wanted) - {p.name for p in present})
        raise StagingError("compile", f"Tomcat's {', '.join(missing)} is not in {jars}", _OPERATOR)
    for path in present:
        shutil.copyfile(path, target / path.name)


def _newest(folder: Path, pattern: str) -> Path | None:
    return max(folder.glob(pattern), default=None)


def web_xml() -> str:
    """Return the settings of every web application: files, pages, types, sessions of half an hour."""
    types = "\n".join(
        f"  <mime-mapping><extension>{escape(ending)}</extension><mime-type>{escape(kind)}</mime-type></mime-mapping>"
        for ending, kind in by_ending().items()
    )
    return _WEB.replace("@TYPES@", types)


# The port is opened when the application is up, so that a client finds the application.
_SERVER = """<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1">
  <Listener className="org.apache.catalina.core.JreMemoryLeakPreventionListener"/>
  <Service name="Catalina">
    <Connector port="${ingot.port}" address="0.0.0.0" protocol="HTTP/1.1" bindOnInit="false" maxThreads="64"
               minSpareThreads="2" connectionTimeout="20000" keepAliveTimeout="75000" URIEncoding="UTF-8"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="${catalina.base}/apps" workDir="${java.io.tmpdir}/tomcat" autoDeploy="false"
            deployOnStartup="false" deployIgnore=".*">
        <!-- The peer is always a router; it says whether the client came by TLS. -->
        <Valve className="org.apache.catalina.valves.RemoteIpValve" internalProxies=".*"
               remoteIpHeader="x-not-taken-over" protocolHeader="x-forwarded-proto"/>
        <Valve className="org.apache.catalina.valves.ErrorReportValve" showReport="false" showServerInfo="false"/>
        <Context path="" docBase="${ingot.webapp}">
          <Resources allowLinking="true"/>
        </Context>
      </Host>
    </Engine>
  </Service>
</Server>
"""
_WEB = """<?xml version="1.0" encoding="UTF-8"?>
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
    <init-param><param-name>listings</param-name><param-value>false</param-value></init-param>
    <load-on-startup>1</load-on-startup>
  </servlet>
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
    <init-param><param-name>development</param-name><param-value>false</param-value></init-param>
    <load-on-startup>3</load-on-startup>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
  <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern></servlet-mapping>
  <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jspx</url-pattern></servlet-mapping>
  <session-config><session-timeout>30</session-timeout></session-config>
@TYPES@
  <welcome-file-list>
    <welcome-file>index.html</welcome-file>
    <welcome-file>index.htm</welcome-file>
    <welcome-file>index.jsp</welcome-file>
  </welcome-file-list>
</web-app>
"""
