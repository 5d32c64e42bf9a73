"""Builds the Java samples: a jar from one source, with the compiler that comes with Tomcat (a JRE has none)."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

APPS = Path(__file__).resolve().parents[1] / "apps"
_JARS = Path("/usr/share/java")


def build_jar(folder: Path) -> Path:
    """Compile tests/apps/jar and pack it; return the folder to push."""
    compilers = [*_JARS.glob("*jdt*core*.jar"), *_JARS.glob("ecj.jar")]
    classes, app = folder / "classes", folder / "app"
    app.mkdir(parents=True)
    compiler = ["java", "-cp", ":".join(map(str, compilers)), "org.eclipse.jdt.internal.compiler.batch.Main"]
    subprocess.run(
        [*compiler, "-17", "-proc:none", "-nowarn", "-d", classes, APPS / "jar" / "Main.java"], check=True
    )
    with zipfile.ZipFile(app / "sample.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nMain-Class: Main\r\n\r\n")
        for path in sorted(classes.glob("*.class")):
            jar.write(path, path.name)
    return app


def build_exploded(folder: Path) -> Path:
    """Copy tests/apps/war as a developer has it: with dot files beside the pages."""
    app = folder / "app"
    shutil.copytree(APPS / "war", app)
    (app / ".env").write_text("SECRET=1")
    (app / ".well-known").mkdir()
    (app / ".well-known" / "proof").write_text("p")
    return app


def build_war(folder: Path) -> Path:
    """Pack tests/apps/war; return the folder to push, which holds the war alone."""
    app = folder / "app"
    app.mkdir(parents=True)
    root = APPS / "war"
    with zipfile.ZipFile(app / "sample.war", "w") as war:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            war.write(path, path.relative_to(root))
    return app
